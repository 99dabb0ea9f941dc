"""The reference's nll of a stored run beside another engine's."""

import sqlite3


def compare(engine, nll, count, run, db, limit):
    """Prints both; 0 where the positions are the same and the difference is within the limit, or where no run is named."""
    print(f"{engine} {nll:.7f} nats/token over {count} positions")
    if not run:
        return 0
    found, n = sqlite3.connect(db).execute("SELECT value, n FROM quality WHERE run_id = ? AND scheme = 'reference' AND metric = 'nll'", (run,)).fetchone()
    print(f"{'dsbench':{len(engine)}} {found:.7f} nats/token over {n} positions, difference {found - nll:+.1e}")
    return 0 if n == count and abs(found - nll) <= limit else 1
