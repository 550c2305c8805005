"""A machine that is reached over ssh and by nothing else: its own network, sshd, processes and home, on this machine.

Ray listens on every interface; in a network namespace of its own there is only the loopback. Needs root and sshd.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from support.processes import descendants

NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
PROGRAMS = ("unshare", "nsenter", "ip", "ssh", "ssh-keygen", "rsync", "bash")
SSHD = "/usr/sbin/sshd"
SECONDS_TO_START = 60

SSHD_CONFIG = """\
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
SetEnv HOME={folder}/host
"""

PROFILE = """\
export PATH=$HOME/.local/bin:{path} TMPDIR={folder}/tmp
export UV_OFFLINE=1 UV_CACHE_DIR={cache} RAY_USAGE_STATS_ENABLED=0
"""


def missing() -> str | None:
    """Why there can be no such machine here; None if there can."""
    if absent := [name for name in (SSHD, *PROGRAMS) if shutil.which(name) is None]:
        return f"{', '.join(absent)} not found; on Debian: apt-get install openssh-server openssh-client rsync iproute2"
    if uv() is None:
        return "uv not found: start the tests with `uv run`"
    if subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode:
        return "this machine gives no namespaces of its own (unshare): needs root, and a container that allows it"
    return None


def uv() -> str | None:
    """The uv that started the tests, or that of the PATH."""
    return os.environ.get("UV") or shutil.which("uv")


def cache_of(uv: str) -> str:
    """The folder of packages that uv filled before the tests; HOME is another now."""
    own = os.environ | {"HOME": pwd.getpwuid(os.getuid()).pw_dir}
    return subprocess.run([uv, "cache", "dir"], env=own, capture_output=True, text=True, check=True).stdout.strip()


class SshMachine:
    """Two homes in one new folder: `host`, where ssh leads to, and `laptop`, of whoever gives the commands."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gc-up-", dir="/tmp"))  # short, for the names of Ray's sockets
        self.key = self.folder / "key"

    def __enter__(self) -> "SshMachine":
        for name in ("laptop", "host/.local/bin", "tmp"):
            (self.folder / name).mkdir(parents=True)
        for name in ("host_key", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)
        (self.folder / "sshd_config").write_text(SSHD_CONFIG.format(folder=self.folder))
        self._write_profile()
        start = f"ip link set lo up; mount -t tmpfs none /run; mkdir /run/sshd; exec {SSHD} -D -e -f sshd_config"
        self._log = (self.folder / "sshd.log").open("w")
        self._process = subprocess.Popen(
            [*NAMESPACES, "bash", "-c", start], cwd=self.folder, stdout=self._log, stderr=self._log
        )
        self._await_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # --kill-child: its first process ends with it, and with that one all others
        self._process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)  # a process may still be writing

    def _write_profile(self) -> None:
        found = uv()
        assert found
        profile = PROFILE.format(path=os.environ["PATH"], folder=self.folder, cache=cache_of(found))
        (self.folder / "host/.bash_profile").write_text(profile)
        (self.folder / "host/.bashrc").touch()
        (self.folder / "host/.local/bin/uv").symlink_to(found)

    def _await_start(self) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        log = self.folder / "sshd.log"
        while "listening" not in log.read_text():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def processes(self) -> dict[int, str]:
        """Command lines of all that run there beside sshd itself, by number."""
        found = {}
        for pid in descendants(self._process.pid):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has ended meanwhile
            if not line.startswith("sshd: /usr/sbin/sshd -D"):
                found[pid] = line
        return found

    def run(self, *command: str | Path, cwd: Path, timeout_s: float) -> "Done":
        """What a command of the laptop ends with; it sees the machine, and nothing of this process's variables."""
        variables = {"HOME": self.folder / "laptop", "TMPDIR": self.folder / "tmp", "PATH": os.environ["PATH"]}
        settings = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
        given = [f"{name}={value}" for name, value in (variables | settings).items()]
        (first,) = _children(self._process.pid)
        enter = ["nsenter", f"--target={first}", "--net", "--mount", "--pid", "env", "-i", f"--chdir={cwd}", *given]
        done = subprocess.run(
            [*enter, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s
        )
        return Done(done.returncode, done.stdout)


class Done:
    """How a command ended, and what it said."""

    def __init__(self, code: int, told: str) -> None:
        self.code, self.told = code, told


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
