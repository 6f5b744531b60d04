"""The process that renders chat templates: reads requests from its input, one JSON object per line.

A request is `{"seconds": S, "render": {...}}`, with the arguments of `transformers`'
`render_jinja_template`, or `{"seconds": S, "variables": TEMPLATE}`. The answer is one line too,
`{"value": ...}` or `{"error": TEXT}`. The kernel ends the process by SIGALRM if a request takes
longer than its seconds, also in the middle of one computation.
"""

import json
import re
import resource
import signal
import sys
from typing import Any

from dvaojax.errors import first_line, import_extra

chat_templates = import_extra("transformers.utils.chat_template_utils", extra="hf")
jinja2 = import_extra("jinja2", extra="hf")
jinja2_meta = import_extra("jinja2.meta", extra="hf")

MEMORY = 2**30  # bytes of address space; about 200 MiB are in use before the first template
LONGEST = 10_000_000  # characters of a rendered prompt


def main() -> None:
    """Answers requests until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        answer = json.dumps(_answer(request))
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        print(answer, flush=True)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "variables" in request:
            return {"value": _variables(request["variables"])}
        return {"value": _render(**request["render"])}
    # Templates raise errors of any class, those of jinja and exhausted memory included.
    except Exception as error:
        return {"error": first_line(error)}


def _render(
    template: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    variables: dict[str, Any],
) -> str:
    rendered, _ = chat_templates.render_jinja_template(
        conversations=[messages], tools=tools, chat_template=template, **variables
    )
    if len(rendered[0]) > LONGEST:
        raise ValueError(f"it wrote more than {LONGEST:,} characters")
    return rendered[0]


def _variables(template: str) -> list[str]:
    """The input variables of a template."""
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    # A tag of transformers around the assistant's text, unknown to jinja.
    plain = re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", template)
    return sorted(jinja2_meta.find_undeclared_variables(environment.parse(plain)))
