/* The report's style sheet: light and dark, wide tables scroll by themselves, pictures stay on white paper. */
#ifndef DSB_REPORTS_HTML_STYLE_H
#define DSB_REPORTS_HTML_STYLE_H

static const char dsb_html_style[] =
    ":root{color-scheme:light dark;--paper:#fff;--page:#f4f5f7;--ink:#1c2127;--soft:#5c6670;--line:#dfe3e8;--mark:#e9f3ec;--accent:#00684a;--warn:#8a3a00;--warnpaper:#fff3e0;--bad:#b3261e}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#1b1f24;--page:#121519;--ink:#e4e8ec;--soft:#9aa4ae;--line:#333a42;--mark:#17342a;--accent:#5fd0a5;--warn:#ffb877;--warnpaper:#3a2a17;--bad:#ff8a80}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:15px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "main{max-width:1460px;margin:0 auto;padding:28px 22px 60px}\n"
    "header p{color:var(--soft);margin:2px 0 0}\n"
    "h1{font-size:27px;margin:0;letter-spacing:-.01em}\n"
    "h2{font-size:20px;margin:0 0 6px}h3{font-size:16px;margin:22px 0 4px}\n"
    "section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:20px 22px;margin:18px 0}\n"
    "section>p{max-width:80ch;margin:4px 0 10px}.soft{color:var(--soft)}\n"
    ".answer{border-left:5px solid var(--accent)}.answer strong{font-size:24px;display:block;margin:0 0 4px}.answer p{max-width:90ch;margin:6px 0}#verdict strong{text-transform:capitalize}#verdict>.scroll td:last-child{white-space:normal;min-width:36ch;overflow-wrap:anywhere}.regressed{border-left-color:var(--bad)}.regressed strong{color:var(--bad)}.inconclusive{border-left-color:var(--warn)}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(112px,1fr));gap:12px;margin:14px 0 4px}.tile{border:1px solid var(--line);border-radius:8px;padding:9px 13px}\n"
    ".tile b{display:block;font-size:21px;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:13px}\n"
    ".warn{border-left:5px solid var(--warn);background:var(--warnpaper)}.warn ul{margin:6px 0;padding-left:20px}\n"
    /* a shade at the side where more of a wide table lies */
    ".scroll{overflow-x:auto;margin:8px 0;background:linear-gradient(to left,var(--paper) 40%,transparent) 100% 0/60px 100% no-repeat local,"
    "radial-gradient(farthest-side at 100% 50%,var(--soft),transparent) 100% 0/16px 100% no-repeat scroll}\n"
    "table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;width:100%}\n"
    "th,td{text-align:right;padding:5px 9px;white-space:nowrap;border-bottom:1px solid var(--line);vertical-align:bottom}\n"
    "td{vertical-align:top}th{font-weight:600}th small{display:block;font-weight:400;color:var(--soft)}.l{text-align:left}\n"
    ".scroll tr>:first-child{position:sticky;left:0;background:var(--paper)}.scroll tr.marked>:first-child{background:var(--mark)}\n"
    "tbody tr:hover{background:color-mix(in srgb,var(--line) 35%,transparent)}tr.marked{background:var(--mark)}tr.marked td:first-child{font-weight:600}\n"
    "figure{margin:16px auto 26px;max-width:960px}figure svg{display:block;width:100%;height:auto;background:#fff;border:1px solid var(--line);border-radius:8px}\n"
    "figcaption{color:var(--soft);font-size:14px;max-width:90ch;margin-top:5px}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:8px 0}dt{font-weight:600}dd{margin:0;max-width:85ch;overflow-wrap:anywhere}\n"
    "code{font:13px ui-monospace,'DejaVu Sans Mono',monospace;overflow-wrap:anywhere}\n"
    "nav{margin:12px 0 0}nav a{display:inline-block;color:var(--accent);text-decoration:none;margin-right:16px}nav a:hover{text-decoration:underline}\n"
    "details summary{cursor:pointer;color:var(--soft);padding:3px 0}details[id]{border-top:1px solid var(--line)}h4{font-size:14px;margin:12px 0 2px}\n"
    "th button{all:unset;cursor:pointer}th button:focus-visible,a:focus-visible,summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}\n"
    "th[aria-sort] button::after{content:' ▲';font-size:10px}th[aria-sort=descending] button::after{content:' ▼'}\n"
    ".strip{display:flex;flex-wrap:wrap;gap:3px}.strip a{min-width:34px;padding:5px 0;text-align:center;border:1px solid var(--line);border-radius:5px;color:var(--ink);text-decoration:none;font-size:13px;background:color-mix(in srgb,var(--bad) var(--h),var(--paper))}\n"
    "footer{color:var(--soft);font-size:13px;margin-top:26px}\n"
    "@media(max-width:640px){section{padding:14px 12px}h1{font-size:22px}nav a{display:inline-block;padding:4px 0}dl{grid-template-columns:1fr}dd{margin-bottom:8px}main{padding:16px 10px}section{padding:16px 12px}figure{overflow-x:auto}figure svg{min-width:660px}}\n"
    "@media print{body{background:#fff}section{break-inside:avoid-page;border:none;padding:8px 0}nav{display:none}}\n";

#endif
