"""A server of an exported model with `transformers`, as a program: MODEL NAME PORT."""

import sys
import threading
from http.server import ThreadingHTTPServer
from typing import Any

import torch
import transformers
from chat_handler import ChatHandler


class Model:
    """A model and its tokenizer, which answer one request at a time."""

    def __init__(self, directory: str):
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(directory)
        self._stop = self._tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._lock = threading.Lock()

    def answer(self, request: dict[str, Any]) -> str:
        """The answer to the messages of a request, rendered by the model's chat template."""
        prompt = self._tokenizer.apply_chat_template(
            request["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        temperature = request["temperature"]
        sampling = {"temperature": temperature, "top_k": 0} if temperature else {}
        with self._lock:
            tokens = self._model.generate(
                **prompt,
                do_sample=bool(temperature),
                max_new_tokens=request["max_tokens"],
                eos_token_id=self._stop,
                pad_token_id=self._stop,
                **sampling,
            )
        answer = tokens[0, prompt["input_ids"].shape[1] :]
        return self._tokenizer.decode(answer, skip_special_tokens=True)


class Handler(ChatHandler):
    """Answers with the exported model."""

    exported: Model

    def answer(self, request: dict[str, Any]) -> str:
        return self.exported.answer(request)


if __name__ == "__main__":
    torch.set_num_threads(1)
    Handler.model, Handler.name = sys.argv[1:3]
    Handler.exported = Model(Handler.model)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Handler).serve_forever()
