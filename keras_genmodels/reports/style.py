"""How the page of `report` looks."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2024; --soft: #5a646d; --line: #dde1e4; --page: #fcfcfb;
  --raised: #f3f4f3; --accent: #00639a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e7e9; --soft: #a0a9b0; --line: #353b40; --page: #15181a;
    --raised: #1e2225; --accent: #6cbcec;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 5rem; max-width: 66rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  overflow-wrap: break-word;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 {
  font-size: 1.35rem; margin: 3rem 0 1rem; padding-bottom: .35rem;
  border-bottom: 1px solid var(--line);
}
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; color: var(--accent); }
p { margin: .4rem 0; max-width: 46rem; }
header p, .note, small, figcaption { color: var(--soft); }
.note, figcaption { font-size: .9rem; }
code { font: .9em ui-monospace, Menlo, Consolas, monospace; }
table {
  border-collapse: collapse; width: 100%; margin: .75rem 0 1rem;
  font-variant-numeric: tabular-nums;
}
th, td {
  padding: .45rem .75rem .45rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line);
}
th { font-weight: 500; }
thead th { color: var(--soft); font-size: .9rem; vertical-align: bottom; }
th:last-child, td:last-child { padding-right: 0; }
.numbers td, .numbers thead th { text-align: right; }
.numbers tbody th { min-width: 13rem; }
.wide tbody th { width: 13rem; }
.numbers tbody td:nth-child(2) { font-weight: 650; }
.several .numbers tbody td:nth-child(2) { font-weight: inherit; }
.facts tbody th { width: 13rem; color: var(--soft); }
.single .facts thead { display: none; }
small { display: block; font-size: .85rem; font-weight: 400; max-width: 34rem; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
figure { margin: 0; min-width: 0; }
figcaption { margin-top: .25rem; }
img { display: block; max-width: 100%; height: auto; }
.curves, .sheets {
  display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr));
}
.curves img { width: 100%; max-width: 30rem; }
.sheets { align-items: start; }
.sheets img { background: #fff; border-radius: 4px; padding: .5rem; }
@media (max-width: 42rem) {
  body { padding: 1.25rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  table, tbody, tr, th, td { display: block; width: auto; }
  thead { display: none; }
  tr { padding: .6rem 0; border-bottom: 1px solid var(--line); }
  th, td { border: 0; padding: 0; }
  .numbers tbody th { min-width: 0; margin-bottom: .25rem; }
  .facts tbody th, .wide tbody th { width: auto; }
  .numbers td, .several .facts td {
    display: flex; justify-content: space-between; gap: 1rem;
  }
  .numbers td::before, .several .facts td::before {
    content: attr(data-column); color: var(--soft); font-weight: 400;
  }
  td:empty { display: none; }
}
"""
