"""What users of ``@farframe/client`` get: a clean tarball whose types hold, and that bundles."""

from __future__ import annotations

import json
import re

import pytest

from tests.web.package import CLIENT, WEB, InstalledPackage, install_package, node

pytestmark = pytest.mark.slow

PROGRAM = """
import { Connection, FarframeError, ManagementClient, type Entity, type Result } from "@farframe/client";
import { FarframeViewerElement, type FarframeViewerEventMap } from "@farframe/client/element";

export async function open(viewer: FarframeViewerElement): Promise<Entity> {
  viewer.tokenProvider = async ({ refused }) => (refused === undefined ? "first" : "second");
  viewer.addEventListener("disconnected", (event) => {
    const reason: Result = event.detail.reason;
    console.log(reason);
  });
  viewer.addEventListener("click", (event) => event.clientX);
  const connection: Connection = await viewer.whenConnected();
  connection.on("closed", (error: FarframeError) => console.log(error.result));
  const root = await viewer.loadModel("builtin://Engine");
  root.position = [0, 1, 0];
  // @ts-expect-error: a position has three numbers
  root.position = [0, 1];
  // @ts-expect-error: there is no such way
  viewer.way = "pigeon";
  return root;
}

export function manage(token: string): ManagementClient {
  return new ManagementClient({ endpoint: "https://render.example.net", accountId: "a", token: () => token });
}

export type Statistics = FarframeViewerEventMap["statistics"]["detail"];
export const element: FarframeViewerElement | null = document.querySelector("farframe-viewer");
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> InstalledPackage:
    return install_package(tmp_path_factory.mktemp("package"))


def test_the_tarball_holds_what_users_need_and_nothing_else(package: InstalledPackage) -> None:
    modules = {path.relative_to(CLIENT / "src").with_suffix("").as_posix() for path in (CLIENT / "src").rglob("*.ts")}
    assert {path for path in package.files if not path.startswith("dist/")} == {"LICENSE", "README.md", "package.json"}
    assert {path for path in package.files if path.startswith("dist/")} == {
        f"dist/{name}{ending}" for name in modules for ending in (".js", ".d.ts")
    }
    installed = package.folder / "node_modules" / "@farframe" / "client"
    assert (installed / "LICENSE").read_text() == (WEB.parent / "LICENSE").read_text()
    description = json.loads((installed / "package.json").read_text())
    assert "dependencies" not in description
    for entry in description["exports"].values():
        for target in [entry] if isinstance(entry, str) else entry.values():
            assert (installed / target).is_file(), target


@pytest.mark.parametrize("resolution", ["bundler", "node16"])
def test_a_strict_program_compiles_against_it(package: InstalledPackage, resolution: str) -> None:
    package.check_types("program.ts", PROGRAM, resolution)


def test_a_program_that_is_wrong_does_not(package: InstalledPackage) -> None:
    with pytest.raises(AssertionError, match="does not exist"):
        package.check_types("wrong.ts", 'import { Connection } from "@farframe/client";\nConnection.fly();', "bundler")


PREAMBLE = {
    "accountId": "declare const accountId: string;",
    "token": "declare const token: string;",
    "video": "declare const video: HTMLVideoElement;",
    "connection": 'declare const connection: import("@farframe/client").Connection;',
}
"""What an example of the README takes for granted, unless it makes it itself."""


def test_the_examples_of_the_readme_compile(package: InstalledPackage) -> None:
    examples = re.findall(r"(?ms)^```ts\n(.*?)^```", (CLIENT / "README.md").read_text(encoding="utf-8"))
    assert len(examples) >= 5
    for number, example in enumerate(examples):
        given = [line for name, line in PREAMBLE.items() if not re.search(rf"\b(const|let) {name}\b", example)]
        program = "\n".join([*given, example, "export {};"])
        package.check_types(f"example{number}.ts", program, "bundler")


def test_it_can_be_imported_where_there_is_no_page(package: InstalledPackage) -> None:
    """As a server does that makes pages: nothing but the import happens there."""
    script = (
        "const all = await import('@farframe/client'); await import('@farframe/client/element');"
        "console.log(typeof all.Connection.connect, new all.FarframeError('Fail', 'x').result);"
    )
    assert node("--input-type=module", "-e", script, folder=package.folder).split() == ["function", "Fail"]


def test_a_page_bundles_only_what_it_uses(package: InstalledPackage) -> None:
    dist = package.bundle(
        '<!doctype html><script type="module" src="/main.ts"></script>',
        'import { FarframeError } from "@farframe/client"; document.title = new FarframeError("Fail", "x").result;',
    )
    scripts = "".join(path.read_text() for path in dist.rglob("*.js"))
    assert "FarframeError" in scripts
    assert not re.search("RTCPeerConnection|farframe-viewer", scripts)
