"""Everything that a training job imports, imported before there is one."""

from torch import nn

# The jobs themselves, with PyTorch and all that stands on it.
import workers.training.finetune
import workers.training.publish  # noqa: F401
from models.backbone_graph import backbone_graph
from models.diagnosis.labels import import_confident_learning
from models.spec import Preprocessing

TINY = Preprocessing(height=4, width=4, resize=4)


def warm_up() -> None:
    """PyTorch's exporter imports most of itself when it is first used. The graph is thrown away."""
    import_confident_learning()
    backbone_graph(nn.Sequential(nn.Flatten(), nn.Linear(3 * TINY.height * TINY.width, 1)), TINY)
