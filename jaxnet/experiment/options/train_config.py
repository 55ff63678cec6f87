"""The options of `jaxnet train`."""

import dataclasses
from typing import ClassVar, Literal

from jaxnet.experiment.console.errors import BadInput, option
from jaxnet.experiment.networks.options import NetworkOptions
from jaxnet.experiment.options.cadence import Cadence
from jaxnet.experiment.options.combinations import check_combinations, check_seeds
from jaxnet.experiment.options.optimizer_options import LARGEST, OptimizerOptions
from jaxnet.experiment.options.parts import PartOptions

OutputActivation = Literal["auto", "identity", "sigmoid", "tanh", "relu", "leaky_relu", "softplus"]
LossName = Literal[
    "auto",
    "sigmoid_binary_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "binary_cross_entropy",
    "sigmoid_focal_loss",
    "half_squared_error",
    "huber_loss",
    "poisson_nll_loss",
]
Feedback = Literal["transpose", "random", "sign", "direct"]

# Trained at once: each has its own parameters on the device.
MOST_SEEDS = 1000


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """What a network is trained on: the first options of all, and so the first that help tells."""

    data: str = "digits"
    """digits, breast_cancer, iris, wine, diabetes, linnerud, moons, circles, spirals; or a .csv or .tsv file, plain or
    gzipped (with --target), a .npz file with x and y or, as Keras saves them, x_train and so on, or a folder with x.npy
    and y.npy, with MNIST's IDX files, also where torchvision leaves them below it, or with PNG and JPEG images, those
    of each class in a folder of its own, also below train, val and test. For a network of text: python-docs, a .txt
    file, a folder of them, or a .npy file of tokens."""
    target: tuple[str, ...] = ()
    """The target column of a .csv or .tsv file, or several: of numbers for several outputs, or each of 0 and 1 where
    several labels may apply to an example."""
    features: tuple[str, ...] = ()
    """The columns to learn from; by default all but the target, and but those that name the rows."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    categorical: tuple[str, ...] = ()
    """Columns whose numbers are names, as of months or zones: each gets a feature of its own, as texts do anyway."""
    image_size: tuple[int, ...] = ()
    """HEIGHT WIDTH: resize all images of a folder to so many pixels, whatever their sides are to each other; predict
    does so too. Without it, all have to be of one size."""


@dataclasses.dataclass(frozen=True)
class TrainConfig(OptimizerOptions, NetworkOptions, PartOptions, DataOptions):
    """Train a network, by the hand-derived backward pass, on a data set that ships with scikit-learn or on a file."""

    WORD: ClassVar = "--data"
    output_activation: OutputActivation = "auto"
    """After the last layer; auto: sigmoid for binary_cross_entropy, else identity (the other losses include theirs)."""
    loss: LossName = "auto"
    """auto: sigmoid cross-entropy for two classes, softmax for more, half squared error for numbers. Besides,
    sigmoid_focal_loss: for two classes of which one is rare, since what is right already counts little; huber_loss: for
    numbers of which some are far off, which count by their size beyond one standard deviation; poisson_nll_loss: for
    counts, whose mean is the exponential of the output."""
    label_smoothing: float = 0.0
    """Of classes: the share of each label that all classes get alike, in training. Validation and test have the labels
    as they are."""
    batch_size: int = 32
    """Examples in a minibatch."""
    epochs: int = 100
    """Passes over the training part, at the most; with --model cnn by default 20."""
    early_stopping: int = 0
    """Stop after so many epochs without a better validation loss, and keep the best parameters; 0: never."""
    seed: int = 0
    """Decides the split, the start and the order of the examples."""
    seeds: int = 1
    """Train so many networks at once, with starts and orders by --seed and the numbers after it, on one split; the
    scores are means, with 95% intervals. predict takes the one with the least validation loss."""
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    """Of parameters and arithmetic; bfloat16: training in mixed precision, with parameters in float32."""
    backward: Literal["hand", "autodiff"] = "hand"
    """The hand-derived backward pass, or jax.grad for comparison."""
    feedback: Feedback = "transpose"
    """Through which weights the signal travels back: W transposed (backpropagation), fixed random ones (feedback
    alignment), the signs of W, or fixed random ones directly from the output (direct feedback alignment)."""
    clip_examples: float | None = None
    """Shorten each example's gradient to this length C at most, before the mean is taken; with --weights or
    --class-weights w: (1/m) sum_i w_i min(1, C / |g_i|) g_i."""
    noise_multiplier: float = 0.0
    """With --clip-examples: the standard deviation of the noise on the sum of a batch's clipped gradients, in units of
    that length, as for differentially private SGD."""
    clip_layers: bool = False
    """With --clip-examples: clip the gradient of each weight, bias and so on by itself, to that length over the root of
    how many there are."""
    private_epsilon: float | None = None
    """Train with differential privacy, and spend at most this epsilon over all --epochs: with --clip-examples, noise is
    added as an accountant finds it, and each example is in a batch by itself at random, --batch-size of them expected.
    docs/how-to/private-training.md says what is protected, and what is not."""
    private_delta: float = 1e-5
    """With --private-epsilon: its delta, far less than one over the training examples."""
    scale: Literal["standard", "range", "none"] = "standard"
    """How features are scaled, by the training part. standard: to mean 0 and standard deviation 1, and at most 10 of
    these away; range: to 0 and 1, and not beyond; none: not at all. Each column by itself, but all pixels of images
    alike: those are IDX files, digits, and x with more than two axes or of bytes (uint8)."""
    stream: bool = False
    """Leave the inputs on disk, in a folder with x.npy or with unpacked IDX files, and read them in blocks, the next
    one while the device computes: for data larger than memory. The same batches in the same order."""
    out: str | None = None
    """The run's folder; by default the first free runs/DATA-1, runs/DATA-2, ..."""
    overwrite: bool = False
    """Replace an existing run folder."""
    checkpoint_every: str = "60s"
    """Save all that the run is: every 500 (steps), 60s or 2epochs, and besides after the first epoch, at the end, at
    Ctrl-C and at SIGTERM; 0: never, and the run cannot go on."""
    keep: int = 3
    """How many checkpoints stay, the newest ones."""
    resume: str | None = None
    """A run's folder, to go on from its newest checkpoint as if it had never stopped. Its options hold; more --epochs
    may be given, and --data where the same data have moved."""
    on_nan: Literal["stop", "skip", "rollback"] = "stop"
    """When a loss or gradient is no longer finite: stop, and say where it arose; skip the batch; or go back to the
    newest checkpoint and see the examples in another order."""
    diagnostics: bool = False
    """After each epoch, of each layer: the gradient's norm, the update's size to the weights', dead and saturated
    units; in metrics.jsonl and a figure."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into the run's folder."""
    profile: bool = False
    """Write a jax.profiler trace of a few steps into the run's folder."""
    mesh: str | None = None
    """Devices to split over: data=4 for the examples of each batch, model=2 for the neurons, or data=4,model=2. By
    default one device; with --distributed all, for examples."""
    shard_state: bool = False
    """Split parameters, gradients and what the optimizer keeps over the devices for examples too: each layer gathers
    its own where it uses them (ZeRO-3, FSDP)."""
    distributed: bool = False
    """This is one process of several, on as many machines or on one; each is started with the same options. What the
    next three say is found out under Slurm, MPI, Kubernetes and on Cloud TPUs."""
    coordinator: str | None = None
    """HOST:PORT of the first process, at which the others find it."""
    processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which one this is, from 0 on."""
    compilation_cache: bool = True
    """Keep compiled programs in the user's cache folder, so that a run like an earlier one starts at once."""

    def __post_init__(self) -> None:
        least_of = {"batch_size": 1, "epochs": 1, "early_stopping": 0, "seed": 0, "seeds": 1, "keep": 1}
        for name, least in least_of.items():
            value = getattr(self, name)
            if value < least:
                raise BadInput(f"{option(name)}: expected an integer of at least {least}, got {value}")
        if self.seed >= 2**32:
            raise BadInput(f"--seed: expected an integer below 2^32, got {self.seed}")
        if self.seeds > MOST_SEEDS:
            raise BadInput(f"--seeds: expected an integer up to {MOST_SEEDS}, got {self.seeds}")
        if len(self.image_size) not in (0, 2) or not all(1 <= side < 2**16 for side in self.image_size):
            got = " ".join(map(str, self.image_size))
            raise BadInput(f"--image-size: expected HEIGHT WIDTH, two numbers from 1 to 2^16 - 1, got {got}")
        OptimizerOptions.__post_init__(self)
        NetworkOptions.__post_init__(self)
        self.check_parts(noise=self.noise_multiplier > 0)
        if self.clip_examples is not None and not 0 < self.clip_examples <= LARGEST:
            raise BadInput(f"--clip-examples: expected a positive number up to {LARGEST:g}, got {self.clip_examples}")
        if not 0 <= self.noise_multiplier <= LARGEST:
            raise BadInput(f"--noise-multiplier: expected a number from 0 to {LARGEST:g}, got {self.noise_multiplier}")
        if not 0 <= self.label_smoothing < 1:
            raise BadInput(
                f"--label-smoothing: expected a number of at least 0 and below 1, got {self.label_smoothing}"
            )
        Cadence.read(self.checkpoint_every)
        check_combinations(self)
        if self.seeds > 1:
            check_seeds(self)
