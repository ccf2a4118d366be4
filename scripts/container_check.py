#!/usr/bin/env python3
"""Checks Dockerfile.cuda as far as that goes without a container engine, a GPU or a network.

    scripts/container_check.py [target/release/sconce]

Reads the file: known instructions, shell that parses, sources that exist and that .dockerignore lets through, a last
stage that is not root. Copies what a build would see and asks cargo whether it is whole. Then runs the binary as the
image would: the file's entry point, command, environment, health check and stop signal, in namespaces of its own, with
a read-only root file system and a user id that nobody knows. That last part needs root and is skipped without. Prints
one line a check and exits with 1 if one failed.
"""

import fcntl
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

PROJECT = pathlib.Path(__file__).resolve().parent.parent
KNOWN = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "SHELL", "STOPSIGNAL",
    "USER", "VOLUME", "WORKDIR",
}
RANDOM_UID, KEY = 54321, "0123456789abcdef0123456789abcdef"
URL = "http://127.0.0.1:5052"
failed = 0


def expect(name, is_good, found=""):
    """A check that is silent when it holds."""
    global failed
    failed += not is_good
    if not is_good:
        print(f"FAIL  {name}{f': {found}' if found else ''}", flush=True)
    return is_good


def check(name, is_good, found=""):
    if expect(name, is_good, found):
        print(f"ok    {name}", flush=True)


class Stage:
    """The instructions behind one FROM, in order, as (instruction, text, line)."""

    def __init__(self, name):
        self.name, self.lines = name, []

    def all(self, instruction):
        return [text for known, text, _ in self.lines if known == instruction]

    def last(self, instruction):
        return (self.all(instruction) or [""])[-1]


def parse(text):
    """The stages; the first, without a name, holds the arguments before any FROM."""
    stages, pending, begun = [Stage("")], "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not (line.strip() or pending):
            continue
        begun = begun if pending else number
        pending += line.strip().removesuffix("\\")
        if line.rstrip().endswith("\\"):
            continue
        instruction, _, rest = pending.partition(" ")
        pending = ""
        if instruction == "FROM":
            name = re.fullmatch(r"\S+ AS (\S+)", rest)
            stages.append(Stage(name[1] if name else rest))
        stages[-1].lines.append((instruction, rest.strip(), begun))
    expect("the last line ends", not pending, pending)
    return stages


def ignore_rules(text):
    """Patterns of .dockerignore as (is an exception, regular expression); the last that matches decides."""
    rules = []
    for line in text.splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            parts = re.escape(pattern.removeprefix("!").strip("/"))
            parts = parts.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
            rules.append((pattern.startswith("!"), re.compile(f"(?:{parts})(?:/.*)?")))
    return rules


def context():
    """What a build of a clean checkout sees: the paths, relative to the project."""
    listed = ["git", "-C", str(PROJECT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    paths = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
    rules = ignore_rules((PROJECT / ".dockerignore").read_text())
    seen = []
    for path in filter(None, paths):
        verdicts = [is_exception for is_exception, rule in rules if rule.fullmatch(path)]
        if (not verdicts or verdicts[-1]) and (PROJECT / path).exists():
            seen.append(path)
    return seen


def shell_parses(text):
    return subprocess.run(["sh", "-n", "-c", text], capture_output=True).returncode == 0


def is_exec_form(text):
    try:
        return all(isinstance(word, str) for word in json.loads(text))
    except ValueError:
        return False


def check_file(stages, seen):
    before = failed
    for stage in stages:
        for instruction, text, line in stage.lines:
            where = f"line {line}"
            expect(f"{where}: {instruction}", instruction in KNOWN, "not an instruction that this check knows")
            words = [word for word in text.split() if not word.startswith("--")]
            if instruction == "RUN" and not text.startswith("["):
                expect(f"{where}: the shell understands it", shell_parses(re.sub(r"^(--\S+\s+)+", "", text)))
            if instruction in ("CMD", "ENTRYPOINT") or (instruction in ("RUN", "VOLUME") and text.startswith("[")):
                expect(f"{where}: {instruction} is in exec form", is_exec_form(text), text)
            if instruction == "COPY" and "--from=" in text:
                source = re.search(r"--from=(\S+)", text)[1]
                expect(f"{where}: there is a stage {source}", source in [stage.name for stage in stages])
            elif instruction == "COPY":
                for word in words[:-1]:
                    there = [path for path in seen if path == word or path.startswith(f"{word}/")]
                    expect(f"{where}: {word} is there and not ignored", bool(there))
    num_instructions = sum(len(stage.lines) for stage in stages)
    check(f"each of {num_instructions} instructions by itself", failed == before)
    last = stages[-1]
    check("the image does not run as root", re.fullmatch(r"[1-9]\d*:0", last.last("USER")), last.last("USER"))
    check("it stops by SIGTERM", last.last("STOPSIGNAL") == "SIGTERM", last.last("STOPSIGNAL"))
    check("its health is in exec form", is_exec_form(last.last("HEALTHCHECK").partition(" CMD ")[2]))


def check_context(seen):
    weights = [path for path in seen if path.endswith((".gguf", ".safetensors", ".bin"))]
    check("no model but the built-in one", weights == ["models/embedded/model.gguf"], str(weights))
    missing = []
    for path in seen:
        if path.endswith(".rs") and "tests" not in path:
            names = re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', (PROJECT / path).read_text())
            targets = [os.path.normpath(os.path.join(os.path.dirname(path), name)) for name in names]
            missing += [target for target in targets if target not in seen]
    check("every file that the sources include is in the context", not missing, " ".join(missing))
    with tempfile.TemporaryDirectory() as folder:
        for path in seen:
            copy = pathlib.Path(folder, path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / path, copy)
        command = ["cargo", "metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        check("cargo finds all that the manifests name", done.returncode == 0, done.stderr.strip())


class Image:
    """The last stage, run by hand: a read-only root with one writable folder. Lives in its own namespaces.

    All that it makes is in a tmpfs that goes away with them; nothing is ever removed below `folder`, where folders of
    this machine are mounted.
    """

    def __init__(self, stage, binary, folder):
        self.root, self.folder = pathlib.Path(folder, "root"), folder
        self.entry, self.command = json.loads(stage.last("ENTRYPOINT")), json.loads(stage.last("CMD"))
        self.health = json.loads(stage.last("HEALTHCHECK").partition(" CMD ")[2])
        words = " ".join(stage.all("ENV")).split()
        self.environment = {"PATH": os.environ["PATH"], "HOME": "/"} | dict(word.split("=", 1) for word in words)
        self.state = self.root / json.loads(stage.last("VOLUME"))[0].lstrip("/")
        self.assemble(stage, binary)

    def assemble(self, stage, binary):
        mount = lambda *words: subprocess.run(["mount", *map(str, words)], check=True)
        mount("--make-rprivate", "/")
        mount("-t", "tmpfs", "-o", "mode=755", "work", self.folder)
        self.root.mkdir()
        mount("-t", "tmpfs", "-o", "mode=755", "root", self.root)
        for name in ("usr", "etc", "bin", "lib", "lib64"):
            host, here = pathlib.Path("/", name), self.root / name
            if host.is_symlink():
                here.symlink_to(os.readlink(host))
            elif host.is_dir():
                here.mkdir()
                mount("--bind", "-o", "ro", host, here)
        (self.root / "dev").mkdir()
        for name in ("null", "zero", "full", "random", "urandom"):
            (self.root / "dev" / name).touch()
            mount("--bind", f"/dev/{name}", self.root / "dev" / name)
        home = self.root / os.path.dirname(self.entry[0]).lstrip("/")
        mount("-t", "tmpfs", "-o", "mode=755", "entry", home)
        shutil.copy(binary, home)
        mount("-o", "remount,ro", home)
        (self.root / "proc").mkdir()
        mount("-t", "proc", "proc", self.root / "proc")
        self.state.mkdir(parents=True)
        # As the image makes it: another user's folder, with group 0 let in.
        mount("-t", "tmpfs", "-o", "mode=2770,uid=10001,gid=0", "state", self.state)
        # Open to everybody, so that only the read-only root keeps them from being written to.
        for name in ("tmp", stage.last("WORKDIR").lstrip("/")):
            (self.root / name).mkdir()
            (self.root / name).chmod(0o777)
        mount("-o", "remount,ro", self.root)

    def start(self, command, **more):
        user = ["chroot", f"--userspec={RANDOM_UID}:0", "--groups=", str(self.root)]
        log = open(pathlib.Path(self.folder, "log"), "w+")
        return subprocess.Popen([*user, *command], env=self.environment | more, stdout=log, stderr=log, cwd="/"), log

    def run(self, command, **more):
        process, log = self.start(command, **more)
        try:
            code = process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            code = None
        log.seek(0)
        return code, log.read()


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        set_flags, is_up = 0x8914, 1
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", is_up))


def status_of(path, body=None, **headers):
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"} | headers)
    try:
        return urllib.request.urlopen(request, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


def check_run(image):
    start = image.entry + image.command
    code, said = image.run(start)
    check("without anybody to let in it does not start, and says why", code == 3 and "AIGW_GITLAB_URL" in said, said)
    state = image.environment["XDG_STATE_HOME"] + "/sconce"
    code, said = image.run(["sh", "-c", f"! touch /models/x && ! touch /tmp/x && touch {state}/x && rm {state}/x"])
    check("nothing but the state folder can be written", code == 0, said)

    server, log = image.start(start, AIGW_GITLAB_URL="https://gitlab.invalid", SCONCE__AUTH__KEYS=f"alice={KEY}")
    deadline = time.monotonic() + 60
    while (healthy := image.run(image.health)[0]) != 0 and server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    log.seek(0)
    check("the health check passes", healthy == 0, log.read())
    if server.poll() is None:
        body, bearer = {"model": "sconce", "prompt": "def f(", "max_tokens": 4}, f"Bearer {KEY}"
        check("a caller with a key is answered", status_of("/v1/completions", body, Authorization=bearer) == 200)
        check("a caller without one is not", status_of("/v1/completions", body) == 401)
        check("the signing key is in the state folder", any(image.state.iterdir()))
    server.terminate()
    check("SIGTERM ends it well", server.wait(timeout=60) == 0, str(server.returncode))
    check("the health check fails then", image.run(image.health)[0] != 0)


def inside(binary, folder):
    stage = parse((PROJECT / "Dockerfile.cuda").read_text())[-1]
    loopback_up()
    check_run(Image(stage, binary, folder))
    return 1 if failed else 0


def main():
    if sys.argv[1:2] == ["--inside"]:
        return inside(*sys.argv[2:])
    binary = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else PROJECT / "target/release/sconce")
    stages = parse((PROJECT / "Dockerfile.cuda").read_text())
    seen = context()
    check_file(stages, seen)
    check_context(seen)
    namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0 or subprocess.run([*namespaces, "true"], capture_output=True).returncode != 0:
        print("skipped: running the image by hand needs root and namespaces")
    elif not binary.exists():
        print(f"skipped: running the image by hand needs {binary} (cargo build --release)")
    else:
        folder = tempfile.mkdtemp()
        inner = [sys.executable, __file__, "--inside", str(binary.resolve()), folder]
        code = subprocess.run([*namespaces, *inner]).returncode
        os.rmdir(folder)  # Empty: what was mounted there went with the namespaces.
        return 1 if failed or code else 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
