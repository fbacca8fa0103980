"""The command ``python -m eval.race``: see `eval.race.engines`."""

from eval.race.engines import app

if __name__ == "__main__":
    app()
