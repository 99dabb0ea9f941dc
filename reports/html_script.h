/* The report's script: tables are sorted by a click on a column's head, a link to a layer opens it. Without it the page is as readable. */
#ifndef DSB_REPORTS_HTML_SCRIPT_H
#define DSB_REPORTS_HTML_SCRIPT_H

static const char dsb_html_script[] =
    "'use strict';\n"
    "document.querySelectorAll('table').forEach(table=>{\n"
    " const head=table.tHead.rows[0],body=table.tBodies[0];\n"
    " if(body.rows.length<2)return;\n"
    " const key=(row,i)=>{const cell=row.cells[i];return cell.dataset.v===undefined?cell.textContent:parseFloat(cell.dataset.v)};\n"
    " const order=(a,b,up)=>{\n"
    "  if(typeof a!==typeof b)return typeof a==='number'?-1:1;\n"
    "  const d=typeof a==='number'?a-b:a.localeCompare(b);return up?d:-d};\n"
    " [...head.cells].forEach((cell,i)=>{\n"
    "  const button=document.createElement('button');\n"
    "  button.type='button';\n"
    "  button.append(...cell.childNodes);\n"
    "  cell.append(button);\n"
    "  button.addEventListener('click',()=>{\n"
    "   const up=cell.getAttribute('aria-sort')!=='ascending';\n"
    "   [...head.cells].forEach(c=>c.removeAttribute('aria-sort'));\n"
    "   cell.setAttribute('aria-sort',up?'ascending':'descending');\n"
    "   body.append(...[...body.rows].sort((a,b)=>order(key(a,i),key(b,i),up)))})})});\n"
    "const show=()=>{const e=document.getElementById(decodeURIComponent(location.hash.slice(1)));if(e&&e.tagName==='DETAILS'){e.open=true;e.scrollIntoView()}};\n"
    "addEventListener('hashchange',show);show();\n";

#endif
