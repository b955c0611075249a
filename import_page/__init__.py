"""The import page of the example shop, and the reference implementation for frontends.

It uses only the public HTTP API, so `static/import_page/import.js` can be reused in any page.
"""
