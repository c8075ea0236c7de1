"""A worker process on this machine: Beam's own program, quiet, and ending with the process that started it.

`python -m mt3.data.beam_worker PID`, started by `mt3.data.beam_pipeline`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

_LOOK_SECONDS = 0.2


def end_with(process_id: int) -> None:
    """Ends this process, unfinished work and all, soon after another has gone, however it went."""

    def watch() -> None:
        while _is_running(process_id):
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main() -> None:
    """Runs Beam's worker; its notes on how it goes about its work go nowhere."""
    end_with(int(sys.argv[1]))
    # Without a handler of ours, the first message would install one that writes to standard error.
    logging.getLogger().addHandler(logging.NullHandler())
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv[:1])


if __name__ == "__main__":
    main()
