"""Behaviour that asyncio and Cloverleaf share: every test runs on both loops."""
