"""The command ``python -m eval.bench``: see `eval.bench.benchmark`."""

from eval.bench.benchmark import app

if __name__ == "__main__":
    app()
