"""`python -m tests.inference.local.scripted_runner`: the real runner around a scripted engine."""

from inference.local.runner import main
from tests.inference.local.scripted_engine import ScriptedEngine

if __name__ == "__main__":
    main(ScriptedEngine.load)
