"""One file per runtime; `table.py` names them."""
