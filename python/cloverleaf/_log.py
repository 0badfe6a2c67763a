"""The logger that asyncio documents; all that the loop has to tell goes there."""

import logging

logger = logging.getLogger("asyncio")
