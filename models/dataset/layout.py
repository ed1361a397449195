"""Which label and which split each file has, from the folders it lies in or from a manifest. Opens no picture.

Where two readings are possible, none is chosen: LayoutUnclear says what was found and how to make it clear.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from models.dataset.errors import LayoutUnclear
from models.dataset.manifest import SPLIT_OF_NAME, is_manifest, parse_manifest
from models.dataset.names import shown
from models.dataset.report import Fault, FaultCode
from models.dataset.sample import SPLITS, SplitName
from models.formats import FORMAT_OF_SUFFIX

LayoutKind = Literal["class_folders", "split_folders", "manifest"]

# Only to tell folders of pictures from others; what a file is, its content says.
PICTURE_SUFFIXES = frozenset({*FORMAT_OF_SUFFIX, ".heic", ".heif"})


@dataclass(frozen=True)
class Placed:
    """A file of the source and what it is said to show."""

    name: str
    label: str
    split: SplitName | None


@dataclass(frozen=True)
class SourceLayout:
    """`labels` are all that were found, those of empty folders too. `faults` are of files that have no place."""

    kind: LayoutKind
    labels: frozenset[str]
    placed: tuple[Placed, ...]
    faults: tuple[Fault, ...]


def find_layout(files: Iterable[str], folders: Iterable[str], read: Callable[[str], bytes]) -> SourceLayout:
    """The layout of a source with these paths, litter left out; `read` gives a manifest's bytes.

    Raises LayoutUnclear.
    """
    tree = _tree(files, folders)
    root = _unwrapped(tree)
    manifests = root.manifests()
    if len(manifests) > 1:
        raise LayoutUnclear(f"there are several manifests, {_listed(manifests)}: keep one")
    if manifests:
        return _by_manifest(tree, root, manifests[0], read)
    splits = _split_folders(root)
    return _by_split_folders(tree, splits) if splits else _by_class_folders(tree, root)


@dataclass
class _Folder:
    """`prefix` is its path with a slash behind it, `files` are the names of those that lie directly in it."""

    prefix: str
    folders: "dict[str, _Folder]" = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def folder(self, path: Iterable[str]) -> "_Folder":
        here = self
        for name in path:
            here = here.folders.setdefault(name, _Folder(f"{here.prefix}{name}/"))
        return here

    def every_file(self) -> Iterator[str]:
        """The paths in the source of all files in it and below."""
        yield from (self.prefix + name for name in self.files)
        for _, folder in sorted(self.folders.items()):
            yield from folder.every_file()

    def manifests(self) -> list[str]:
        return [name for name in self.files if is_manifest(name)]

    def holds_pictures(self) -> bool:
        return any(map(_is_picture, self.files))

    def has_pictures(self) -> bool:
        """In it or below."""
        return any(map(_is_picture, self.every_file()))


def _tree(files: Iterable[str], folders: Iterable[str]) -> _Folder:
    root = _Folder("")
    for path in folders:
        root.folder(path.split("/"))
    for path in sorted(files):
        *parents, name = path.split("/")
        root.folder(parents).files.append(name)
    return root


def _unwrapped(root: _Folder) -> _Folder:
    """Below the folders that merely wrap the dataset, as in most archives."""
    while len(root.folders) == 1 and not root.holds_pictures() and not root.manifests():
        ((name, inner),) = root.folders.items()
        is_class = inner.holds_pictures() or not inner.folders
        if not inner.manifests() and (is_class or name.casefold() in SPLIT_OF_NAME):
            break
        root = inner
    return root


def _by_manifest(tree: _Folder, root: _Folder, manifest: str, read: Callable[[str], bytes]) -> SourceLayout:
    rows, faults = parse_manifest(manifest, read(root.prefix + manifest))
    present = set(root.every_file())
    placed = []
    for row in rows:
        name = root.prefix + str(PurePosixPath(unicodedata.normalize("NFC", row.file.replace("\\", "/"))))
        if name in present:
            placed.append(Placed(name, row.label, row.split))
        else:
            reason = f"{manifest} line {row.line} names it, but it is not there"
            faults.append(Fault(FaultCode.MISSING_FILE, reason, file=row.file, label=row.label))
    unnamed = set(tree.every_file()) - {file.name for file in placed} - {root.prefix + manifest}
    reason = f"no row of {manifest} names it, so it is not used"
    faults += [Fault(FaultCode.NOT_IN_MANIFEST, reason, file=name) for name in sorted(unnamed)]
    return SourceLayout("manifest", frozenset(row.label for row in rows), tuple(placed), tuple(faults))


def _split_folders(root: _Folder) -> dict[SplitName, _Folder]:
    """The folders at the top that stand for splits; none where such a name is a class like the others."""
    named = {name: folder for name, folder in root.folders.items() if name.casefold() in SPLIT_OF_NAME}
    others = [name for name, folder in root.folders.items() if name not in named and folder.has_pictures()]
    with_classes = [name for name, folder in named.items() if folder.folders]
    if not named or (others and not with_classes):
        return {}
    if others:
        raise LayoutUnclear(
            f"beside the splits {_listed(with_classes)} there are other folders with pictures, {_listed(others)}: "
            "put either splits or classes at the top"
        )
    if not with_classes:
        raise LayoutUnclear(
            f"there are no class folders in {_listed(named)}: put each picture into a folder named for its class"
        )
    splits: dict[SplitName, _Folder] = {}
    for name, folder in named.items():
        split = SPLIT_OF_NAME[name.casefold()]
        if split in splits:
            raise LayoutUnclear(f"two of the folders {_listed(named)} mean the split {split}: keep one")
        splits[split] = folder
    if "train" not in splits:
        raise LayoutUnclear(f"there is {_listed(named)}, but no train: there is nothing to learn from")
    return {split: splits[split] for split in SPLITS if split in splits}


def _by_split_folders(tree: _Folder, splits: dict[SplitName, _Folder]) -> SourceLayout:
    _check_depth([folder for split in splits.values() for folder in split.folders.values()])
    placed = [
        Placed(file, label, split)
        for split, folder in splits.items()
        for label, inside in folder.folders.items()
        for file in inside.every_file()
    ]
    labels = frozenset(label for folder in splits.values() for label in folder.folders)
    return SourceLayout("split_folders", labels, tuple(placed), _strays(tree, placed))


def _by_class_folders(tree: _Folder, root: _Folder) -> SourceLayout:
    _check_depth(list(root.folders.values()))
    placed = [Placed(file, label, None) for label, inside in root.folders.items() for file in inside.every_file()]
    return SourceLayout("class_folders", frozenset(root.folders), tuple(placed), _strays(tree, placed))


def _check_depth(classes: list[_Folder]) -> None:
    """Subfolders of a class belong to it, as long as some class shows that classes stand at this depth."""
    if any(folder.holds_pictures() for folder in classes):
        return
    for folder in classes:
        for file in filter(_is_picture, folder.every_file()):
            outer, inner = PurePosixPath(folder.prefix).name, PurePosixPath(file).parent.name
            raise LayoutUnclear(
                f"no class folder holds a picture itself, only folders in it do: is the class of {shown(file)} "
                f"{shown(outer)} or {shown(inner)}? Put the pictures directly into the folders of their classes"
            )


def _strays(tree: _Folder, placed: Iterable[Placed]) -> tuple[Fault, ...]:
    stray = sorted(set(tree.every_file()) - {file.name for file in placed})
    reason = "it lies in no class folder, so it is not used"
    return tuple(Fault(FaultCode.OUTSIDE_CLASS_FOLDER, reason, file=name) for name in stray)


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.casefold() in PICTURE_SUFFIXES


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(shown, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
