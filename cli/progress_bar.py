"""A moving bar with words beside it, or below it where a terminal is narrow: neither bar nor word is ever cut."""

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.progress import Progress, Task
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli.wrapping import wrap_phrases

_BAR_WIDTH = 20
_SHORTEST_TITLE = 8
_INDENT = "  "


class WordedProgress(Progress):
    """One line for each task, and as many below it as its words need. It is gone when it ends."""

    def __init__(self, console: Console, words: Callable[[Task], Sequence[str]]) -> None:
        self._words = words
        self._spinner = Spinner("line" if console.options.ascii_only else "dots")
        super().__init__(console=console, transient=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield self._rendered(task)

    def _rendered(self, task: Task) -> RenderableType:
        title = _shortened(task.description, max(_SHORTEST_TITLE, self.console.width - _BAR_WIDTH - 4))
        beside, *below = wrap_phrases(
            self._words(task), self.console.width - len(title) - _BAR_WIDTH - 4, self.console.width - len(_INDENT)
        )
        row = Table.grid(padding=(0, 1))
        row.add_row(self._spinner.render(task.get_time()), Text(title, no_wrap=True), _bar(task), Text(beside))
        return Group(row, *(Text(_INDENT + line, no_wrap=True) for line in below))


def _bar(task: Task) -> ProgressBar:
    return ProgressBar(
        total=task.total, completed=task.completed, width=_BAR_WIDTH, pulse=task.total is None,
        animation_time=task.get_time(),
    )  # fmt: skip


def _shortened(title: str, length: int) -> str:
    """The end of a long title says less than its beginning."""
    return title if len(title) <= length else f"{title[: length - 3]}..."
