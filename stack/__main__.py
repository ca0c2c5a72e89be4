"""The commands behind the Makefile: `python -m stack up [--detach] | demo | down | clean | manage ...`."""

import argparse
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from stack import bootstrap, demo, sweep
from stack.config import ROOT, Config
from stack.errors import Trouble
from stack.progress import complain
from stack.state import State
from stack.up import DETACHED, environment_of, own_servers, up


def main() -> int:
    """Runs one command: 0 when it did its work, 1 with a message when it could not, 130 if interrupted."""
    arguments = parsed(sys.argv[1:])
    try:
        if arguments.command == "manage":
            return manage(as_started(Config.load()), arguments.words)
        return run(arguments.command, Config.load(), detach=arguments.detach)
    except (Trouble, bootstrap.SetupError) as trouble:
        complain(str(trouble))
    except BrokenPipeError:
        # Whoever read the output has left, as `make up | head` does; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        complain(f"{error.strerror}: {error.filename or ROOT}. Mend that, or set DATA_DIR to another place.")
    except KeyboardInterrupt:
        return 130
    return 1


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """`command`, with `detach` for up, and for manage `words`: all that follows, options too."""
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    parser.set_defaults(detach=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up").add_argument("--detach", action="store_true", help="go on in the background")
    for name in ("demo", "down", "clean"):
        commands.add_parser(name)
    commands.add_parser("manage").add_argument(
        "words", nargs=argparse.REMAINDER, help="what manage.py is to do"
    )
    return parser.parse_args(arguments)


def run(command: str, config: Config, *, detach: bool) -> int:
    """Runs `command`; the exit code. Raises Trouble."""
    if command == "up" and detach:
        return up_detached(config)
    if command == "up":
        try:
            up(config)
        except KeyboardInterrupt:
            return 0
    elif command == "demo":
        config = as_started(config)
        token = config.environment.get(demo.CALLER) or demo.TOKENS[demo.CALLER]
        return 0 if demo.run(config, token) else 1
    elif command == "down":
        sweep.down(config)
    else:
        sweep.clean(config)
    return 0


def as_started(config: Config) -> Config:
    """The same with the ports and servers of the stack that is up, whatever is set here and now."""
    return Config.parse({**config.environment, **State(config.run).given()})


def manage(config: Config, words: Sequence[str]) -> int:
    """Runs `manage.py` as a process of the stack that is up would: with its addresses and its secrets."""
    if not State(config.run).ready():
        raise Trouble("Nothing is up here. Run `make up` first.")
    command = [sys.executable, str(ROOT / "manage.py"), *words]
    return subprocess.run(command, env=environment_of(config, own_servers(config)), check=False).returncode


def up_detached(config: Config) -> int:
    """Starts a stack in the background and shows what it prints until it is ready, or has failed."""
    state = State(config.run)
    with state.held():
        pass  # a stack that is up already says so here, and its log is left alone
    config.logs.mkdir(parents=True, exist_ok=True)
    path = config.logs / "up.log"
    with path.open("w") as output:
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "stack", "up"],
            cwd=ROOT,
            env={**os.environ, DETACHED: "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with path.open() as shown:
        try:
            while True:
                done = child.poll() is not None or state.ready()
                sys.stdout.write(shown.read())
                sys.stdout.flush()
                if done:
                    return child.poll() or 0
                time.sleep(0.1)
        except KeyboardInterrupt:
            child.send_signal(signal.SIGTERM)
            child.wait()
            return 130


if __name__ == "__main__":
    sys.exit(main())
