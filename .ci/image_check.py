"""Try the Dockerfile where no container engine runs: its stages in debootstrap chroots, its service in a locked one.

`python .ci/image_check.py` (as root; installs debootstrap from Debian where it is missing) reads the Dockerfile and
follows it: each stage starts from a minimal Debian, copies what COPY names and runs what RUN says. Then it starts the
entry point as the image's user without capabilities, on a root file system that is read-only but for a tmpfs at /tmp,
in name spaces of its own without network, and asks the health check until it is content; analyses a picture; tries to
write; stops the service. What differs from the image: Debian's own packages stand in for the images that the stages
start from, so Python and Node have Debian's versions.

Only the standard library is needed. The chroots stay under build/image-check; the next run makes them anew, except for
the minimal Debian.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
WORK = REPOSITORY / "build" / "image-check"
MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"
STAND_INS = {"python": ("python3", "python3-venv"), "node": ("nodejs", "npm")}  # packages instead of images
START_S = 120.0
TOKEN = "image-check-token-0123456789"  # not a secret: the service is alone in its network name space
# so that pip and npm inside reach the indexes as they do outside
PASSED_ON = re.compile(r"(PIP|NPM|NODE|SSL)_\w+|\w+_proxy|\w+_PROXY|REQUESTS_CA_BUNDLE")
HOST_FILES = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")


class CheckError(Exception):
    """A check does not hold."""


@dataclass
class Stage:
    """A FROM and what follows it."""

    image: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def parse(text: str) -> list[Stage]:
    """The stages of a Dockerfile."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, _, argument = line.strip().partition(" ")
        if instruction == "FROM":
            image, _, name = argument.partition(" AS ")
            stages.append(Stage(image, name or str(len(stages))))
        elif instruction:
            stages[-1].steps.append((instruction, argument.strip()))
    return stages


def run(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, check=False, **options)
    if done.returncode:
        shown = " ".join(str(part) for part in command)
        raise CheckError(f"`{shown}` ended with {done.returncode}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    return done


def remove(root: Path) -> None:
    """Delete a chroot, unless something of the system is mounted in it."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    if inner := [place for place in mounted if place.startswith(f"{root}/")]:
        raise CheckError(f"{inner[0]} is mounted: unmount it first")
    if root.exists():
        run(["rm", "-rf", "--one-file-system", root])


def minimal_debian() -> Path:
    """A Debian of essential packages, kept between runs."""
    root = WORK / "debian"
    if (root / "etc" / "debian_version").exists() and not (root / "debootstrap").exists():
        return root
    remove(root)
    if shutil.which("debootstrap") is None:
        run(["apt-get", "update", "-qq"])
        run(["apt-get", "install", "-qq", "--yes", "--no-install-recommends", "debootstrap"])
    # in a mount name space of its own: an interrupted debootstrap leaves nothing mounted
    run(["unshare", "--mount", "debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, root, MIRROR])
    return root


def base_of(image: str) -> Path:
    """A chroot that stands in for `image`."""
    kind = image.partition(":")[0]
    root = WORK / f"base-{kind}"
    if (root / ".complete").exists():
        return root
    remove(root)
    run(["cp", "-a", minimal_debian(), root])
    for name in HOST_FILES:
        if Path(name).exists():
            shutil.copy(name, root / name.lstrip("/"))
    install = "apt-get update -qq && apt-get install -qq --yes --no-install-recommends " + " ".join(STAND_INS[kind])
    inside(root, ["/bin/sh", "-c", install], {"DEBIAN_FRONTEND": "noninteractive"})
    if kind == "python":
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    (root / ".complete").touch()
    return root


def inside(root: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command in a chroot with /proc and /dev."""
    mounts = f'mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && exec chroot {root} "$@"'
    outer = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    run(["unshare", "--mount", "sh", "-ec", mounts, "sh", *command], env={**path, **outer, **environment})


def copy_context(pattern: str, target: Path) -> None:
    """COPY from the build context: what git has or would take, less .dockerignore."""
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", pattern], cwd=REPOSITORY)
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    for name in filter(None, listed.stdout.split("\0")):
        if any(name == one or name.startswith(f"{one}/") for one in ignored) or not (REPOSITORY / name).exists():
            continue
        place = target / (name if pattern == "." else Path(name).relative_to(pattern))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, place)


def copy(argument: str, root: Path, made: Mapping[str, Path]) -> None:
    """COPY, from the context or from a stage."""
    *options, source, target = argument.split()
    place = root / target.lstrip("/")
    if not options:
        return copy_context(source, place)
    place.parent.mkdir(parents=True, exist_ok=True)
    run(["cp", "-a", made[options[0].removeprefix("--from=")] / source.lstrip("/"), place])
    return None


def assigned(argument: str, environment: Mapping[str, str]) -> dict[str, str]:
    """ENV: names and values, with $NAME filled in."""
    known = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **environment}
    pairs = [text.partition("=") for text in shlex.split(argument)]
    return {name: re.sub(r"\$(\w+)", lambda found: known[found[1]], value) for name, _, value in pairs}


@dataclass
class Image:
    """What the last stage leaves."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    health: list[str] = field(default_factory=list)
    entry: list[str] = field(default_factory=list)


def build(stages: Sequence[Stage]) -> Image:
    """Follow the Dockerfile."""
    made: dict[str, Path] = {}
    for stage in stages:
        image = Image(WORK / f"stage-{stage.name}")
        remove(image.root)
        run(["cp", "-a", base_of(stage.image), image.root])
        made[stage.name] = image.root
        for instruction, argument in stage.steps:
            print(f"{stage.name}: {instruction} {argument}", flush=True)
            follow(instruction, argument, image, made)
    return image


def follow(instruction: str, argument: str, image: Image, made: Mapping[str, Path]) -> None:
    """One instruction."""
    if instruction == "COPY":
        copy(argument, image.root, made)
    elif instruction == "RUN":
        inside(image.root, ["/bin/sh", "-c", argument], image.environment)
    elif instruction == "ENV":
        image.environment.update(assigned(argument, image.environment))
    elif instruction == "USER":
        image.user = argument
    elif instruction == "HEALTHCHECK":
        image.health = json.loads(argument.partition("CMD ")[2])
    elif instruction == "ENTRYPOINT":
        image.entry = json.loads(argument)
    elif instruction != "EXPOSE":
        raise CheckError(f"the Dockerfile has {instruction}, which this check does not know")


def lock(root: Path) -> None:
    """In a mount name space of our own: the root read-only, a tmpfs at /tmp, the network's loopback alone."""
    run(["mount", "--make-rprivate", "/"])
    run(["mount", "--bind", root, root])
    run(["mount", "-t", "proc", "proc", root / "proc"])
    run(["mount", "--rbind", "/dev", root / "dev"])
    run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=1777", "tmpfs", root / "tmp"])
    run(["mount", "-o", "remount,bind,ro", root])
    run(["ip", "link", "set", "lo", "up"])


def as_user(image: Image, command: Sequence[str]) -> list[str]:
    """`command` in the chroot as the image's user: no capabilities, none to be had."""
    uid = run(["chroot", image.root, "id", "-u", image.user]).stdout.strip()
    drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    return ["chroot", str(image.root), *drop, "--no-new-privs", *command]


def try_service(image: Image, picture: Path) -> None:
    """Start it, wait for the health check, use it, stop it."""
    environment = {**image.environment, "MIEN_SERVE_TOKEN": TOKEN}
    service = subprocess.Popen(as_user(image, image.entry), env=environment)
    try:
        started = time.monotonic()
        while subprocess.run(
            as_user(image, image.health), env=environment, capture_output=True, check=False
        ).returncode:
            if service.poll() is not None or time.monotonic() - started > START_S:
                raise CheckError(f"the health check is not content after {time.monotonic() - started:.0f} s")
            time.sleep(0.5)
        print(f"holds: healthy after {time.monotonic() - started:.1f} s", flush=True)
        print(f"holds: {analyzed(picture)}", flush=True)
        print(f"holds: {locked(image, environment)}", flush=True)
    finally:
        service.terminate()
        code = service.wait(60)
    if code != 0:
        raise CheckError(f"the service ended with {code} after SIGTERM")
    print("holds: SIGTERM ends it with 0", flush=True)


def analyzed(picture: Path) -> str:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Authorization": f"Bearer {TOKEN}"}
    body = head + picture.read_bytes() + b"\r\n--b--\r\n"
    request = urllib.request.Request("http://127.0.0.1:8000/api/v1/analyze", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        (result,) = json.load(answer)
    with urllib.request.urlopen("http://127.0.0.1:8000/private/manifest.json", timeout=60) as answer:
        runtime = json.load(answer)["runtime"]["url"]
    return f"a portrait is analysed ({len(result['faces'])} face), private mode is there ({runtime})"


def locked(image: Image, environment: Mapping[str, str]) -> str:
    script = (
        "import os, pathlib\n"
        "caps = [l for l in pathlib.Path('/proc/self/status').read_text().splitlines() if l.startswith('CapEff')]\n"
        "assert os.getuid() > 0 and caps == ['CapEff:\\t0000000000000000'], caps\n"
        "pathlib.Path('/tmp/free').touch()\n"
        "for place in ('/', '/opt/mien', '/var', '/etc'):\n"
        "    try: pathlib.Path(place, 'x').touch()\n"
        "    except OSError as error: assert error.errno in (13, 30), error\n"
        "    else: raise SystemExit(f'{place} can be written')\n"
        "print(os.getuid())\n"
    )
    done = run(as_user(image, ["python", "-c", script]), env=dict(environment))
    remount = subprocess.run(["touch", image.root / "x"], capture_output=True, check=False)  # root cannot either
    if remount.returncode == 0:
        raise CheckError("the root file system can be written")
    return f"user {done.stdout.strip()}, no capabilities, nothing but /tmp can be written"


def portrait() -> Path:
    """A picture with a face, fetched as `mien demo` does."""
    python = WORK / "stage-build" / "opt/mien/bin/python"
    code = "from mien.demo import portrait; print(portrait())"
    root = WORK / "stage-build"
    inside(root, ["/" + str(python.relative_to(root)), "-c", f"{code}"], {"MIEN_HOME": "/portrait"})
    (picture,) = (path for path in (root / "portrait").iterdir() if path.suffix in (".jpg", ".png"))
    return picture


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        image = Image(**{**json.loads(sys.argv[2]), "root": Path(sys.argv[3])})
        lock(image.root)
        try_service(image, Path(sys.argv[4]))
        return
    if os.geteuid() != 0:
        raise CheckError("it needs root, for debootstrap and chroot")
    WORK.mkdir(parents=True, exist_ok=True)
    image = build(parse((REPOSITORY / "Dockerfile").read_text(encoding="utf-8")))
    about = {name: getattr(image, name) for name in ("environment", "user", "health", "entry")}
    namespaces = ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child"]
    command = [*namespaces, sys.executable, __file__, "--inside", json.dumps(about), str(image.root), str(portrait())]
    if subprocess.run(command, check=False).returncode:
        raise CheckError("the service does not run as the Dockerfile says")


if __name__ == "__main__":
    try:
        main()
    except CheckError as error:
        sys.exit(f"image check: {error}")
