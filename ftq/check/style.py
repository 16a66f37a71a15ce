"""How a check's page looks."""

STYLE = """
:root { --paper: #fbfbfa; --card: #fff; --ink: #1d2329; --dim: #667079; --line: #e2e5e8; --bar: #3f7cac;
  --error: #b3261e; --warning: #9a6200; --note: #3f6f8f; --good: #2e7d4f; --mark: #e9f2ea; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181c; --card: #1c2228; --ink: #dfe4e8; --dim: #94a0aa;
  --line: #303840; --bar: #6ea8d3; --error: #f2877f; --warning: #e0ad55; --note: #8fc0e0; --good: #7fcf9f;
  --mark: #22362b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
header, main { max-width: 1120px; margin: 0 auto; padding: 0 clamp(14px, 4vw, 40px); }
header { padding-top: 32px; }
h1 { margin: 0; font-size: clamp(24px, 5vw, 34px); line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 40px 0 12px; font-size: 20px; }
h3 { margin: 0; font-size: 16px; font-weight: 600; display: flex; gap: 10px; }
header p, .dim { color: var(--dim); }
header p { margin: 4px 0 20px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(138px, 1fr)); gap: 10px; margin: 0; }
dl div, article { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
dd { margin: 0; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
dt { color: var(--dim); font-size: 14px; }
article { margin: 0 0 10px; overflow-wrap: anywhere; }
article p { margin: 4px 0 0; color: var(--dim); }
article.error { border-left: 4px solid var(--error); }
article.warning { border-left: 4px solid var(--warning); }
article.note { border-left: 4px solid var(--note); }
.error h3 span { color: var(--error); } .warning h3 span { color: var(--warning); }
.note h3 span { color: var(--note); }
h3 span { width: 12px; text-align: center; flex: none; }
.good { color: var(--good); }
details { margin-top: 6px; }
summary { cursor: pointer; color: var(--dim); font-size: 14px; }
ul { margin: 4px 0 0; padding-left: 20px; font-size: 14px; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 6px 12px; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border: 0; color: var(--dim); font-weight: 400; }
tbody th { font-weight: 500; overflow-wrap: anywhere; min-width: 150px; }
td { font-variant-numeric: tabular-nums; }
.wide td:nth-child(2), .wide td:nth-child(3), .wide td:nth-child(4), .wide th:nth-child(2), .wide th:nth-child(3),
.wide th:nth-child(4), .bars td:nth-child(2) { text-align: right; }
.wide td:nth-child(5) { width: 30%; min-width: 70px; }
small { display: block; font-size: 13px; font-weight: 400; color: var(--dim); }
.bars th { border: 0; width: 46%; } .bars td { border: 0; } .bars td:nth-child(3) { width: 45%; }
i { display: block; height: 10px; margin-top: 6px; border-radius: 3px; background: var(--bar); }
tr.odd small { color: var(--warning); } tr.dim th { color: var(--dim); font-weight: 400; }
svg { width: 100%; height: auto; display: block; }
svg rect { fill: var(--bar); }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; text-anchor: middle; } svg text.dim { fill: var(--dim); }
.row p { margin: 0 0 6px; font-size: 14px; display: flex; flex-wrap: wrap; gap: 2px 8px; }
.row p b { color: var(--bar); } .row p span { margin-left: auto; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 14px/1.5 ui-monospace, monospace; }
.row summary { color: inherit; list-style: none; } .row details[open] > summary > pre { display: none; }
.row details[open] > summary::after { content: "less"; color: var(--dim); }
mark { background: var(--mark); color: inherit; border-radius: 3px; }
@media (max-width: 560px) { .wide th:nth-child(5), .wide td:nth-child(5) { display: none; }
  .row p span { margin-left: 0; } th, td { padding: 6px 8px; } .bars th { width: 50%; } }
@media print { details > * { display: block; } }
"""
