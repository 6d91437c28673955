"""Lets the tests here import `toy_study`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
