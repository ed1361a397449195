"""What no answer may hold: Python's words for where it was."""

import re

TRACE = re.compile(r'Traceback \(most recent|File "[^"]+\.py"|site-packages|\.py:\d+')
