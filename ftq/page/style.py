"""How pages look: what all share, then what only a check's page has (`.check`), then a run's report (`.report`)."""

STYLE = """
:root { --paper: #fbfbfa; --card: #fff; --ink: #1d2329; --dim: #667079; --line: #e2e5e8; --bar: #3f7cac;
  --second: #c8632b; --error: #b3261e; --warning: #9a6200; --note: #3f6f8f; --good: #2e7d4f; --mark: #e9f2ea; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181c; --card: #1c2228; --ink: #dfe4e8; --dim: #94a0aa;
  --line: #303840; --bar: #6ea8d3; --second: #eb9a66; --error: #f2877f; --warning: #e0ad55; --note: #8fc0e0;
  --good: #7fcf9f; --mark: #22362b; } }
@media print { :root { --paper: #fff; --card: #fff; --ink: #000; --dim: #555; --line: #ccc; --bar: #3f7cac;
  --second: #c8632b; --error: #b3261e; --warning: #7a4d00; --note: #3f6f8f; --good: #24683f; --mark: #e9f2ea; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } details > * { display: block; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
header, main, footer { max-width: 1120px; margin: 0 auto; padding: 0 clamp(14px, 4vw, 40px); }
header { padding-top: 32px; }
h1 { margin: 0; font-size: clamp(24px, 5vw, 34px); line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 40px 0 12px; font-size: 20px; }
h3 { margin: 0; font-size: 16px; font-weight: 600; }
header p, .dim { color: var(--dim); }
header p { margin: 4px 0 20px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(138px, 1fr)); gap: 10px; margin: 0; }
dd { margin: 0; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
dt { color: var(--dim); font-size: 14px; }
.good { color: var(--good); } .bad { color: var(--error); }
details { margin-top: 6px; }
summary { cursor: pointer; color: var(--dim); font-size: 14px; }
ul { margin: 4px 0 0; padding-left: 20px; font-size: 14px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 6px 12px; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border: 0; color: var(--dim); font-weight: 400; }
tbody th { font-weight: 500; overflow-wrap: anywhere; min-width: 150px; }
td { font-variant-numeric: tabular-nums; }
small { display: block; font-size: 13px; font-weight: 400; color: var(--dim); }
i { display: block; height: 10px; margin-top: 6px; border-radius: 3px; background: var(--bar); }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; } svg text.dim { fill: var(--dim); }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 14px/1.5 ui-monospace, monospace; }

.check dl div, .check article { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; }
.check .wide { border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
article { margin: 0 0 10px; overflow-wrap: anywhere; }
article p { margin: 4px 0 0; color: var(--dim); }
.check article.error { border-left: 4px solid var(--error); }
.check article.warning { border-left: 4px solid var(--warning); }
.check article.note { border-left: 4px solid var(--note); }
.check h3 { display: flex; gap: 10px; }
.check h3 span { width: 12px; text-align: center; flex: none; }
.error h3 span { color: var(--error); } .warning h3 span { color: var(--warning); }
.note h3 span { color: var(--note); }
.check td:nth-child(2), .check td:nth-child(3), .check td:nth-child(4), .check th:nth-child(2),
.check th:nth-child(3), .check th:nth-child(4) { text-align: right; }
.check .wide td:nth-child(5) { width: 30%; min-width: 70px; }
.bars th { border: 0; width: 46%; } .bars td { border: 0; } .bars td:nth-child(3) { width: 45%; }
tr.odd small { color: var(--warning); } tr.dim th { color: var(--dim); font-weight: 400; }
.check svg rect { fill: var(--bar); } .check svg text { text-anchor: middle; }
.row p { margin: 0 0 6px; font-size: 14px; display: flex; flex-wrap: wrap; gap: 2px 8px; }
.row p b { color: var(--bar); } .row p span { margin-left: auto; }
.row summary { color: inherit; list-style: none; } .row details[open] > summary > pre { display: none; }
.row details[open] > summary::after { content: "less"; color: var(--dim); }
mark { background: var(--mark); color: inherit; border-radius: 3px; }
@media (max-width: 560px) { .check .wide th:nth-child(5), .check .wide td:nth-child(5) { display: none; }
  .row p span { margin-left: 0; } th, td { padding: 6px 8px; } .bars th { width: 50%; } }

.report header, .report main, .report footer { max-width: 1040px; }
.report header { padding-top: clamp(28px, 5vw, 56px); }
.report header p { margin: 6px 0 0; }
.report .lead { margin: 24px 0 0; max-width: 34em; color: var(--ink); font-size: clamp(19px, 2.4vw, 24px);
  line-height: 1.4; text-wrap: balance; }
.report nav { margin-top: 28px; display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 14px; }
.report nav a { color: var(--dim); text-underline-offset: 3px; text-decoration-color: var(--line); }
.report h2 { margin: 0 0 14px; padding-top: 18px; border-top: 1px solid var(--line); font-size: 22px; }
.report section { margin-top: 52px; }
.report h3 { margin: 28px 0 4px; }
.report p { max-width: 44em; margin: 10px 0 0; overflow-wrap: anywhere; }
.report ul { max-width: 44em; padding-left: 18px; font-size: 15px; overflow-wrap: anywhere; }
.report li { margin-top: 4px; }
.report li::marker { color: var(--dim); }
.report .wrong { list-style: none; padding: 0; margin-bottom: 20px; font-size: 16px; }
.report .wrong li { margin-top: 10px; padding-left: 14px; border-left: 3px solid var(--warning); }
.report dl { gap: 18px 24px; grid-template-columns: repeat(auto-fit, minmax(100px, 1fr)); margin-top: 4px; }
.report dd { font-size: 24px; font-weight: 500; line-height: 1.3; }
.report td, .report thead th + th { text-align: right; white-space: nowrap; }
.report table { font-size: 15px; line-height: 1.4; border-collapse: separate; border-spacing: 0; }
.report th, .report td { padding: 7px 0 7px 20px; }
.report th:first-child { padding-left: 0; position: sticky; left: 0; background: var(--paper); }
.report thead th { padding-bottom: 5px; vertical-align: bottom; }
.report tbody th { font-weight: 400; min-width: 118px; }
.report td.words { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.report tr.first td { font-weight: 600; } .report tr.first th { font-weight: 600; }
.report td i { height: 4px; margin: 6px 0 2px auto; border-radius: 2px; }
.report td i.rest { background: var(--line); width: 100%; max-width: 76px; } .report td i.rest i { margin: 0; }
.report tbody + tbody tr:first-child > * { border-top-color: var(--dim); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 28px 40px; }
figure { margin: 0; max-width: 480px; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 16px; margin-bottom: 6px; font-size: 14px;
  color: var(--dim); }
figcaption b { font-weight: 600; color: var(--ink); }
.report svg text { font-size: 12px; fill: var(--dim); }
.report svg .grid { stroke: var(--line); } .report svg .kept { stroke: var(--dim); stroke-dasharray: 3 3; }
.report svg polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.report svg .one { stroke: var(--bar); } .report svg .two { stroke: var(--second); }
.report svg circle.one { fill: var(--bar); } .report svg circle.two { fill: var(--second); }
.key::before { content: ""; display: inline-block; width: 14px; height: 3px; margin: 0 6px 4px 0; border-radius: 2px;
  background: var(--bar); }
.key.two::before { height: 8px; width: 8px; border-radius: 50%; margin-bottom: 0; background: var(--second); }
.asked { display: grid; grid-template-columns: 4fr 7fr; gap: 8px 36px; padding: 13px 0;
  border-top: 1px solid var(--line); break-inside: avoid; }
.report h3 + .asked { border-top: 0; }
.report .asked p { margin: 0; max-width: none; white-space: pre-wrap; }
.report .asked .question { font-weight: 600; }
.report .asked small { margin-top: 2px; overflow-wrap: anywhere; }
.answers { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 36px; font-size: 15px; }
.asked > *, .answers > * { min-width: 0; }
.report .says { display: flex; gap: 8px; font-size: 13px; color: var(--dim); }
.report .use p { margin-top: 18px; } .report .use pre { padding: 3px 0 3px 14px; border-left: 3px solid var(--line); }
.report td.bar { width: 50%; padding-top: 9px; } .report td.bar i { margin: 4px 0; }
.report footer { margin-top: 56px; padding-bottom: 40px; font-size: 13px; color: var(--dim); }
@media (max-width: 860px) { .asked { grid-template-columns: 1fr; } }
@media (max-width: 560px) { .answers { grid-template-columns: 1fr; } .report th + th, .report td { padding-left: 12px; }
  .report .scores table { font-size: 12.5px; } .report .scores small { display: none; }
  .report .scores tbody th { min-width: 76px; } .report .scores th + th, .report .scores td { padding-left: 7px; }
  .report .scores td i.rest { max-width: 48px; } }
@media print { body { font-size: 11pt; } .report nav { display: none; } .report section { margin-top: 28px; }
  h2, h3 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""
