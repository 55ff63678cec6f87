"""What a run trains, made of its options and so many features, without data."""

from jaxnet.experiment.data.problem import loss_of
from jaxnet.experiment.training.objective import make_objective
from jaxnet.experiment.training.recipe import recipe_of


def objective_of(config, problem, features, batch_size, layout):
    """The objective of the options."""
    network, recipe = config.network((features,), problem.outputs, problem.output_activation), recipe_of(config)
    x = network.inputs(1, recipe.parameters_dtype)
    return make_objective(recipe, network.net, loss_of(problem), x, batch_size, layout)
