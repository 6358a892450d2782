"""What every page of ours looks like: it opens without a server, reads on a phone, and prints."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1.5rem 1rem 4rem;
color:#1f2529;background:#fff}
h1{font-size:1.8rem;margin:0}h2{font-size:1.3rem;margin:3rem 0 .4rem;padding-top:.8rem;
border-top:2px solid #1f2529}h3{font-size:1rem;margin:1.8rem 0 .3rem}
p,ul{max-width:46rem}p{margin:.4rem 0}ul{margin:.4rem 0;padding-left:1.2rem}
img{width:100%;height:auto}section>svg{width:100%;height:auto;margin-top:1rem;background:#eef3f7}
svg.h{width:182px;height:14px;display:block}
.t{overflow-x:auto}table{border-collapse:collapse;font-size:.86rem}
td,th{padding:.14rem .55rem;text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th{font-weight:600;border-bottom:1px solid #99a2aa;vertical-align:bottom}
tbody tr:nth-child(even){background:#f5f7f8}.n,#leaks td,#leaks th{text-align:left}
td.n{max-width:17rem;overflow:hidden;text-overflow:ellipsis}
#leaks td{white-space:normal;overflow-wrap:anywhere}
.note{color:#59636b;font-size:.88rem}.w{background:#fff3cd;border:1px solid #e0c060;
padding:.4rem .8rem}.bad{color:#b00020;font-weight:700}.good{color:#0b6e4f;font-weight:700}
.k{display:flex;flex-wrap:wrap;gap:.3rem 2rem;margin:.8rem 0}.k b{display:block;font-size:1.4rem}
.d{display:inline-block;width:.7rem;height:.7rem;border-radius:50%;margin-right:.35rem}
nav{margin:.6rem 0}nav a{margin-right:1rem;color:#0b6e4f}
@media print{body{font-size:10pt;max-width:none;padding:0}nav{display:none}.t{overflow:visible}
tr,img,svg{break-inside:avoid}h2{break-before:page}h2,h3{break-after:avoid}
svg,.d{print-color-adjust:exact;-webkit-print-color-adjust:exact}
table{font-size:7.5pt}td,th{padding:.1rem .3rem}}
@media (max-width:40rem){td,th{padding:.14rem .22rem}table{font-size:.72rem}td.n{max-width:6rem;white-space:normal;overflow-wrap:anywhere}
th{white-space:normal}svg.h{width:80px}}
"""
