"""What a run says before it begins, and when it has ended."""

from pathlib import Path
from typing import Any

import jax

from jaxnet.experiment.commands.outcome import print_each
from jaxnet.experiment.console import screen
from jaxnet.experiment.console.errors import some
from jaxnet.experiment.console.screen import say
from jaxnet.experiment.data.columns import CATEGORY, NUMBER
from jaxnet.experiment.data.examples import Examples
from jaxnet.experiment.data.tokens import CHARACTERS
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.networks.network import Network
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage.folder import SEEDS
from jaxnet.experiment.training import rates, updates
from jaxnet.experiment.training.batches import batches_in
from jaxnet.experiment.training.cost import Cost
from jaxnet.experiment.training.recipe import Recipe

PARTS = {"train": "training", "validation": "validation", "test": "test"}
WAYS_BACK = {
    "random": "fixed random weights",
    "sign": "the signs of the weights",
    "direct": "fixed random weights from the output",
}
BETAS = ("beta1", "beta2")
# Of result.json: how each is called and written.
SCORES: dict[str, tuple[str, int, str, str]] = {
    "test_accuracy": ("test accuracy", 100, ".2f", "%"),
    "test_rmse": ("test RMSE", 1, ".4g", ""),
    "test_r2": ("R2", 1, ".3f", ""),
    "test_loss": ("test loss", 1, ".4f", ""),
}


def print_plan(
    found: str,
    layout: Layout,
    examples: Examples,
    network: Network,
    recipe: Recipe,
    config: TrainConfig,
) -> None:
    """What it runs on, what is learnt from how many examples, and which network how.

    Args:
      found: the device.
      layout, examples, network, recipe, config: of the run.
    """
    problem, parts = examples.problem, examples.parts
    devices, several = layout.mesh.shape, jax.process_count() > 1
    over = f", {devices['data']} for examples x {devices['model']} for neurons" if layout.mesh.size > 1 else ""
    over += ", state split over both" if layout.shard_state else ""
    say(f"device     {found}{over}" + (f", in {jax.process_count()} processes" if several else ""))
    if examples.tokens is not None:
        _print_text(examples, config)
        say(f"network    {network}; {network.parameters:,} parameters")
        _print_recipe(recipe, batches_in(parts.train.examples, recipe.batch_size))
        if recipe.budget is not None:
            _print_budget(recipe.budget, recipe, *_private_in_text(examples))
        return
    validation, test = (f"{len(part.y)}{_of(file)}" for part, file in _held_out(parts, config))
    counts = f"{len(parts.train.y)} training, {validation} validation, {test} test examples"
    streamed = ", streamed from disk" if config.stream else ""
    scaled = ", all on one scale" if examples.image and config.scale != "none" else ""
    say(f"data       {examples.name}: {counts} of {_counted(parts.features)}{scaled}{streamed}")
    if config.group is not None:
        say(f"groups     by {config.group}: no two parts share any of its values")
    if config.weights is not None or parts.class_weights is not None:
        say(f"weights    {_weighted(parts, examples.problem, config)}")
    for note in examples.notes:
        say(f"note       {note}")
    _print_columns(parts.treatments, examples.left_out)
    if recipe.seeds > 1:
        last = recipe.seed + recipe.seeds - 1
        say(f"seeds      {recipe.seed} to {last} at once, each with its own start and order; means are told")
    say(f"problem    {problem.kind}: {problem.loss}")
    say(f"network    {network}; {network.parameters:,} parameters")
    _print_recipe(recipe, batches_in(len(parts.train.y), recipe.batch_size))
    if recipe.budget is not None:
        _print_budget(recipe.budget, recipe, *_private_in_examples(config, examples))


def _held_out(parts, config):
    return (parts.validation, config.validation), (parts.test, config.test)


def _of(file):
    return "" if file is None else f" ({Path(file).name})"


def _weighted(parts, problem, config):
    """What examples count, and why."""
    by_column = [] if config.weights is None else [f"by {config.weights}, in losses and scores"]
    weights = () if parts.class_weights is None else zip(problem.classes, parts.class_weights, strict=True)
    each = some([f"{name} {weight:.3g}" for name, weight in weights], 6)
    return "; ".join([*by_column, *([f"of classes, in losses: {each}"] if each else [])])


def _print_text(examples, config):
    """How long its parts are, and what an epoch is."""
    parts, unit = examples.parts, examples.tokens.unit
    lengths = (f"{len(getattr(parts, name).x.ids):,} {told}" for name, told in PARTS.items())
    streamed = ", streamed from disk" if config.stream else ""
    say(f"data       {examples.name}: {', '.join(lengths)} {unit}s, {len(examples.tokens.texts)} different{streamed}")
    for note in examples.notes:
        say(f"note       {note}")
    windows, steps = parts.train.examples, -(-parts.train.examples // min(config.batch_size, parts.train.examples))
    context, epoch = parts.train.x.context, parts.train.epoch
    if epoch is None:
        drawn = f"{windows:,} windows of {context + 1} {unit}s, none of which is in two"
        say(f"epoch      {steps:,} steps, which draw from {drawn}")
    else:
        once = ", each once" if windows == epoch.of_pass else ""
        say(f"epoch      {windows:,} windows of {context} {unit}s{once}, in {steps:,} steps")
    say(f"problem    {examples.problem.kind}: {examples.problem.loss}, the mean of a window")


def _counted(features):
    return "1 feature" if len(features) == 1 else f"{len(features)} features"


def _print_columns(treatments, left_out):
    """What became of each column, where some are no plain numbers."""
    if all(treatment.is_plain and treatment.kind == NUMBER for treatment in treatments) and not left_out:
        return
    rows = [(treatment.name, treatment.kind, _becomes(treatment)) for treatment in treatments]
    rows += [(name, "left out", why) for name, why in left_out.items()]
    print(screen.table(("column", "holds", "becomes"), rows, texts=3))


def _becomes(treatment):
    gaps = "its gaps another" if treatment.gaps else ""
    if treatment.kind == CATEGORY:
        of_texts = f"{len(treatment.texts)} features, one for each text, and one for all others"
        return f"{of_texts}; {gaps}" if gaps else of_texts
    return f"a number; gaps {treatment.fill:.4g}, and a feature of their own" if gaps else "a number"


def _print_recipe(recipe, batches):
    rate, decay = rates.learning_rate(recipe), updates.weight_decay(recipe)
    chosen = "its own learning rate" if rate is None else f"learning rate {rate:g}"
    through = "" if recipe.feedback == "transpose" else f" through {WAYS_BACK[recipe.feedback]}"
    betas = "".join(f", {name} {getattr(recipe, name):g}" for name in BETAS if getattr(recipe, name) is not None)
    told = f"{recipe.optimizer}{betas}, {chosen}, weight decay {decay:g}"
    many = f", an update for every {recipe.accumulate} batches" if recipe.accumulate > 1 else ""
    say(f"optimizer  {told}, backward by {recipe.backward}{through}{many}")
    if recipe.schedule != "constant":
        say(f"schedule   {_schedule(recipe, rate, batches)}")
    if recipe.clip_gradient is not None:
        say(f"gradient   clipped to length {recipe.clip_gradient:g}")
    if recipe.label_smoothing:
        say(f"labels     smoothed by {recipe.label_smoothing:g} in training; validation and test as they are")
    if recipe.clip_examples is not None:
        noise = f", noise of {recipe.noise_multiplier:g} times that on their sum" if recipe.noise_multiplier else ""
        parts = ", each parameter's to an even share of it" if recipe.clip_layers else ""
        say(f"examples   gradients clipped to length {recipe.clip_examples:g}{parts}{noise}")


def _private_in_text(examples):
    """What of a text is protected, and what is told of it without noise."""
    unit, beside = examples.tokens.unit, ["what several windows have in common"]
    if examples.tokens.kind == CHARACTERS:
        beside.insert(0, f"which {unit}s the text has")
    return f"window of {examples.parts.train.x.context + 1} {unit}s", beside


def _private_in_examples(config, examples):
    """What of a table or of images is protected, and what is told of them without noise."""
    beside: list[str] = []
    if config.scale != "none":
        beside.insert(0, f"the {'scale' if examples.image else 'scales'} of the features")
    if not examples.problem.classes:
        beside.insert(0, "the mean and scale of the targets")
    if any(not treatment.is_plain or treatment.kind != NUMBER for treatment in examples.parts.treatments):
        beside.insert(0, "texts and medians of the columns")
    return "training example", beside


def _print_budget(budget, recipe, what, beside):
    """What is protected, how, and what is not."""
    say(
        f"privacy    epsilon {budget.epsilon:g}, delta {budget.delta:g} after {recipe.epochs} epochs, for each {what}, "
        f"in a batch with probability {budget.rate:.3g}; a batch has room for {budget.room}"
    )
    beside = [*beside, "the training losses", "the validation and test examples"]
    say(
        f"protected  the parameters, whatever ends the run; not {', not '.join(beside)}; each of several runs to "
        "choose from spends as much; checkpoints hold the key of the noise, and go when the run is finished"
    )


def _schedule(recipe, rate, batches):
    rising, steps = rates.warmup_steps(recipe, batches), rates.last_step(recipe, batches)
    ahead = f"up to {rate:g} in {rising:,} updates, then " if rising else ""
    beyond = ", and stays" if recipe.epochs * batches // recipe.accumulate > steps else ""
    return f"{ahead}down to {recipe.final_learning_rate:g} at update {steps:,} by half a cosine{beyond}"


def print_cost(cost: Cost) -> None:
    """What a step takes, as soon as it is compiled."""
    counted = "" if cost.operations is None else f"{_rounded(cost.operations)} operations; "
    besides = "" if cost.temporary is None else f" and {_rounded(cost.temporary)}B for a time"
    where = ", on each device" if cost.devices > 1 else ""
    say(f"a step     {counted}memory {_rounded(cost.state)}B of parameters and optimizer{besides}{where}")


def _rounded(number):
    """As 2.6 M: three digits, of thousands, millions, ..."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} T"


def _score(result, name):
    """A score, of several seeds with half the width of its interval."""
    title, factor, digits, unit = SCORES[name]
    told = f"{title} {factor * result[name]:{digits}}{unit}"
    if "interval" not in result:
        whole = result.get("test_exact_match") if name == "test_accuracy" else None
        return told if whole is None else f"{told} (all labels of an example: {100 * whole:.2f}%)"
    low, high = result["interval"][name]
    return f"{told} +- {factor * (high - low) / 2:{digits}}{unit}"


def print_result(out: Path, result: dict[str, Any]) -> None:
    """What came of it, and where it is."""
    if "test_bits" in result:
        unit = result["unit"]
        for part in ("validation", "test"):
            loss = f"{result[f'{part}_loss']:.4f} nats, {result[f'{part}_bits']:.4f} bits for each {unit}"
            say(f"{part:11}{loss}, {100 * result[f'{part}_accuracy']:.2f}% foreseen")
    elif "test_accuracy" in result:
        print_each(result)
    after = f"after epoch {result['kept_epoch']} of {result['epochs']}, {result['seconds']:.1f} s"
    told = ", ".join(_score(result, name) for name in SCORES if name in result)
    say(f"result     {told}, {after}")
    if "seeds" in result:
        seeds = len(result["seeds"]["seed"])
        say(f"interval   +- is half of the 95% interval of the mean of {seeds} seeds, on one split")
        say(f"predict    by seed {result['predicts']}, of the least validation loss; each is in {out}/{SEEDS}/")
    say(f"written    {out}/")
