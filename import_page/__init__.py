"""The import page of the stand-in monolith, and the reference for frontends.

It knows the public HTTP API and nothing else: `static/import_page/import.js` can be lifted into any page.
"""
