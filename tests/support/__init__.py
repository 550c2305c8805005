"""What several test files share, one idea a module; fixtures stand in the nearest `conftest.py`."""
