"""What all tests share."""

from __future__ import annotations

import signal

# A shell ignores SIGINT in what it starts with "&", and every process inherits that: Ctrl-C would end none of those that
# tests start, and the tests of that would fail.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
