"""Flower's configuration: live progress columns, without a fork.

Flower runs this file as Python before it builds its app. What it reaches into (Task._fields, TASK_EVENT_TO_STATE,
TASK_COLUMNS, the handlers' URL list) is the same in all of Flower 2.2; the pin and a test hold it there.
"""

from typing import Any

from celery.events import state
from flower import urls
from flower.views import tasks

COLUMNS = {"progress": "Progress", "step": "Step", "loss": "Loss", "time_left": "Time left", "gpu": "GPU"}

# A progress event leaves the task STARTED: Terminate, the filters and the final states keep working.
state.TASK_EVENT_TO_STATE.setdefault("progress", "STARTED")

# Fields of an event become fields of the task: on its page, in the API, in the persistent file ...
for name in COLUMNS:
    if name not in state.Task._fields:
        setattr(state.Task, name, None)
        state.Task._fields = (*state.Task._fields, name)

# ... and columns of the list.
tasks.TASK_COLUMNS.update(COLUMNS)
tasks_columns = "name,args,state,progress,step,loss,time_left,gpu,started,runtime,worker,uuid"

# Stock Flower refreshes only its page of workers: reload the list and the task's card every two seconds.
_LIVE = b"""<script>
setInterval(async () => {
  if (document.hidden) return;
  const list = window.jQuery && jQuery('#tasks-table');
  if (list && list.length) { list.DataTable().ajax.reload(null, false); return; }
  const card = document.querySelector('#task-page .task-details-card, .task-details-card');
  if (!card) return;
  const answer = await fetch(location.href, {credentials: 'same-origin'});
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  const fresh = page.querySelector('.task-details-card');
  if (fresh) card.replaceWith(fresh);
}, 2000);
</script></body>"""


def _live(handler: Any) -> Any:
    class Live(handler):  # type: ignore[misc]
        def render_string(self, template_name: str, **values: Any) -> Any:
            return super().render_string(template_name, **values).replace(b"</body>", _LIVE)

    Live.__name__ = handler.__name__
    return Live


for _route in urls.handlers:
    if getattr(_route, "handler_class", None) in (tasks.TasksView, tasks.TaskView):
        _route.handler_class = _route.target = _live(_route.handler_class)

address = "127.0.0.1"
inspect_timeout = 3000.0
max_tasks = 5000
purge_offline_workers = 600
