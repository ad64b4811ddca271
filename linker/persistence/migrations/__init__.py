"""The schema's revisions, shipped with the library. `HEAD` is the newest one."""

HEAD = "0005"
