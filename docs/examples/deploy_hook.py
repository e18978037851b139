#!/usr/bin/env python3
"""Deploys what a message asks for, as the command of a server:

    DEPLOY_ROOT=/srv web-ipc --serve --inbox durable --exec 'python3 deploy_hook.py'

A message {"app": "shop", "version": "1.4.2"} makes DEPLOY_ROOT/shop/current a link to
DEPLOY_ROOT/shop/releases/1.4.2. Exit status: 0 it is deployed, 65 the message is wrong and becomes
a dead letter, 75 another deployment runs and the message is delivered again later.
"""

import fcntl
import json
import os
import re
import sys

DONE, BAD_DATA, TRY_AGAIN = 0, 65, 75

# What a message may name. It becomes part of a path.
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


def main() -> int:
    message = json.load(sys.stdin)
    app, version = message.get("app"), message.get("version")
    if not all(isinstance(name, str) and NAME.fullmatch(name) for name in (app, version)):
        print("deploy: it names no app and version", file=sys.stderr)
        return BAD_DATA
    folder = os.path.join(os.environ["DEPLOY_ROOT"], app)
    if not os.path.isdir(os.path.join(folder, "releases", version)):
        print(f"deploy: there is no release {version} of {app}", file=sys.stderr)
        return BAD_DATA
    with open(os.path.join(folder, ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return TRY_AGAIN
        # Renamed into its place, so that there is a current release at any time.
        new = os.path.join(folder, ".current.new")
        if os.path.lexists(new):
            os.unlink(new)
        os.symlink(os.path.join("releases", version), new)
        os.replace(new, os.path.join(folder, "current"))
    print(f"deploy: {app} is at {version}, for {os.environ['WEB_IPC_USER']}", file=sys.stderr)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
