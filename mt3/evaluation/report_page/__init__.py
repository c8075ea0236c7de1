"""One HTML page that shows what evaluations found: `page.write_report_page`.

    runs (a results directory each) -> page_data (what the page says) -> page (one file)

`packing` and `audio` make what the page draws and plays. Everything the page
needs is in it: it opens from a file, offline. What it does with the data is in
`assets/`, plain HTML, CSS and JavaScript.
"""
