"""Lets the tests here import `code_closure`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
