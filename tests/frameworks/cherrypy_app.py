"""`/whoami` of the small application, on CherryPy, which keeps one request for each thread."""

from __future__ import annotations

import cherrypy

from ..support import App


class Root:
    """The application's one page."""

    @cherrypy.expose
    @cherrypy.tools.json_in()
    @cherrypy.tools.json_out()
    def whoami(self, name: str):
        request = cherrypy.serving.request
        token, body = request.headers["Authorization"], request.json["name"]
        if not hasattr(request, "token"):
            request.token = token
        return {"token": token, "cached": request.token, "query": name, "body": body}


def make_app() -> App:
    cherrypy.config.update({"environment": "embedded", "log.screen": False})
    return cherrypy.tree.mount(Root(), "")
