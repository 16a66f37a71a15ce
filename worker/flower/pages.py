"""Flower's pages with live progress, without a fork.

The internals that this module changes (Task._fields, TASK_EVENT_TO_STATE, TASK_COLUMNS, the list of routes) are the
same in all of Flower 2.2; the pin and a test make sure of that.
"""

from __future__ import annotations

from typing import Any

from celery.events import state
from flower import urls
from flower.views import tasks

COLUMNS = {"progress": "Progress", "step": "Step", "loss": "Loss", "time_left": "Time left", "gpu": "GPU"}
SHOWN = "name,args,state,progress,step,loss,time_left,gpu,received,runtime,worker,uuid"

# Reload two seconds after the last answer. A page whose server is unreachable turns pale, because its numbers are old.
# What is reloaded is made anew: not while a person presses or selects something there, and with the focus where it was.
_LIVE = b"""<script>
(function () {
  const list = jQuery('#tasks-table'), page = document.getElementById('task-page');
  if (!list.length && !page) return;
  if (list.length) jQuery.fn.dataTable.ext.errMode = 'none';
  const status = root => root.querySelector('.badge').textContent;
  let pressed = false, row, number;
  for (const kind of ['pointerdown', 'pointermove', 'pointerup', 'pointercancel']) {
    addEventListener(kind, event => { pressed = event.buttons % 2 === 1; }, true);
  }
  const busy = () => pressed || !getSelection().isCollapsed;
  const links = () => [...((row ? document.getElementById(row) : page)?.querySelectorAll('a, button') ?? [])];
  function noteFocus() {
    row = document.activeElement.closest('tr')?.id;
    number = links().indexOf(document.activeElement);
  }
  const focus = () => links()[number]?.focus({preventScroll: true});
  list.on('preDraw.dt', () => { noteFocus(); return !pressed; });
  list.on('draw.dt', focus);
  function reloadList() {
    return new Promise(done => {
      list.one('xhr.dt', (event, settings, answer) => done(Boolean(answer)));
      list.DataTable().ajax.reload(null, false);
    });
  }
  async function reloadPage() {
    const answer = await fetch(location.pathname, {credentials: 'same-origin'});
    if (!answer.ok) return false;
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').getElementById('task-page');
    if (busy()) return true;
    noteFocus();
    if (status(fresh) !== status(page)) location.reload();
    else page.querySelector('.task-details-card').replaceWith(fresh.querySelector('.task-details-card'));
    focus();
    return true;
  }
  async function live() {
    if (!document.hidden && !busy()) {
      const there = await (list.length ? reloadList() : reloadPage()).catch(() => false);
      document.getElementById('main-content').style.opacity = there ? '' : 0.4;
    }
    setTimeout(live, 2000);
  }
  setTimeout(live, 2000);
})();
</script></body>"""


def install() -> None:
    """Add the fields of a progress event to Flower's tasks, columns to its list and the live reload to its pages."""
    # A progress event leaves the task STARTED: Terminate, the filters and the final states keep working.
    state.TASK_EVENT_TO_STATE["progress"] = "STARTED"
    for name in COLUMNS:
        setattr(state.Task, name, None)
    state.Task._fields = (*COLUMNS, *state.Task._fields)  # the order of the rows on the task's page
    tasks.TASK_COLUMNS.update(COLUMNS, args="Run")  # a message's argsrepr is the run's name and model
    for route in urls.handlers:
        if getattr(route, "handler_class", None) in (tasks.TasksView, tasks.TaskView):
            route.handler_class = route.target = _live(route.handler_class)


def _live(handler: Any) -> Any:
    """The handler with the script at the end of its page: by itself Flower refreshes only its page of workers."""

    class Live(handler):  # type: ignore[misc]
        def render_string(self, template_name: str, **values: Any) -> Any:
            return super().render_string(template_name, **values).replace(b"</body>", _LIVE)

    return Live
