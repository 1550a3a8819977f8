"""The studio: a local page on which one looks at a model as a probability model. It knows the tasks, and nothing else.

`static/htmx.min.js` is htmx 2.0.11 and `static/sse.min.js` its extension for server-sent events 2.2.4, both as their
makers publish them (BSD Zero Clause License).
"""
