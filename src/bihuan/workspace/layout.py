"""Where things lie in a workspace's folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from bihuan.kernel import UserError, write_atomically
from bihuan.kernel.document import Document

SETTINGS = "bihuan.yaml"
DEFINITIONS = (
    "contracts", "mappings", "tags", "offers", "campaigns", "models", "rules", "recipes", "scenes",
    "filters", "policies", "scripts", "touchpoints", "levers", "triggers", "lifecycle", "moments",
    "maps", "cubes", "matching", "contract_family", "power_services", "indicators",
)  # fmt: skip
_NEW = """# Settings of this workspace.
name: {name}
currency: CNY   # ISO 4217 code of every amount
language: zh    # zh or en
seed: 7         # all chance hangs on it
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of a workspace.

    Parameters
    ----------
    root
        The workspace's folder.
    """

    root: Path

    @property
    def lake(self) -> Path:
        """Snapshots."""
        return self.root / "lake"

    @property
    def index(self) -> Path:
        """Bit planes of the tags; may be removed, they are built again."""
        return self.root / "index"

    @property
    def quarantine(self) -> Path:
        """Rows that were refused."""
        return self.root / "quarantine"

    @property
    def registry(self) -> Path:
        """Models."""
        return self.root / "registry"

    @property
    def lists(self) -> Path:
        """Target lists for channels."""
        return self.root / "lists"

    @property
    def reports(self) -> Path:
        """Reports for people."""
        return self.root / "reports"

    def definitions(self, kind: str) -> Path:
        """Return the folder of one kind of definition files (``tags``, ``offers``, ...)."""
        return self.root / kind

    def find_definition(self, kind: str, name: str) -> Path:
        """Return the definition file of that name.

        Raises
        ------
        UserError
            If there is none; the message lists those that there are.
        """
        folder = self.definitions(kind)
        path = folder / f"{name}.yaml"
        if path.is_file() and path.parent == folder:
            return path
        have = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none"
        raise UserError(
            f"There is no file '{name}.yaml' in {kind}/ (there are: {have}).",
            remedy=f"Write it, or copy it to {kind}/ of the workspace.",
            zh=f"{kind}/ 中没有 {name}.yaml（现有：{have}）。请新建该文件或复制到工作区。",
        )

    def install(self, pack: Path) -> list[str]:
        """Copy a pack's definitions into the workspace; files already there stay as they are.

        Parameters
        ----------
        pack
            Folder with sub-folders ``mappings``, ``tags``, ``offers``, ...

        Returns
        -------
        list[str]
            What was copied, as ``kind/file``.
        """
        copied = []
        for kind in DEFINITIONS:
            for source in sorted((pack / kind).glob("*.yaml")):
                target = self.definitions(kind) / source.name
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
                    copied.append(f"{kind}/{source.name}")
        return copied


def make_folders(root: Path, *, create: bool) -> Layout:
    """Open a workspace's folder, or lay out a new one.

    Raises
    ------
    UserError
        If there is no workspace and ``create`` is false, or the folder holds something else.
    """
    layout = Layout(root)
    if not (root / SETTINGS).exists():
        if not create:
            raise UserError(
                f"{root} is not a workspace: it has no {SETTINGS}.",
                remedy="Make one with  bihuan init FOLDER, or give the right folder.",
                zh=f"{root} 不是工作区（没有 {SETTINGS}）。请用 bihuan init 新建。",
            )
        if root.exists() and any(root.iterdir()):
            raise UserError(
                f"{root} is not empty and not a workspace.",
                remedy="Choose an empty or a new folder.",
                zh=f"{root} 非空且不是工作区，请选择空文件夹或新文件夹。",
            )
        for kind in DEFINITIONS:
            layout.definitions(kind).mkdir(parents=True, exist_ok=True)
        write_atomically(root / SETTINGS, _NEW.format(name=root.name).encode())
    return layout


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a workspace.

    Parameters
    ----------
    name
        For people.
    currency
        ISO 4217 code of every amount.
    language
        ``zh`` or ``en``.
    seed
        All chance hangs on it.
    """

    name: str
    currency: str = "CNY"
    language: str = "zh"
    seed: int = 7


def load_settings(root: Path) -> Settings:
    """Read ``bihuan.yaml``; a wrong field is named."""
    top = Document.read(root / SETTINGS).allow("name", "currency", "language", "seed")
    return Settings(
        name=top.text("name", root.name),
        currency=top.text("currency", "CNY"),
        language=top.choice("language", ("zh", "en"), "zh"),
        seed=top.whole("seed", 7),
    )
