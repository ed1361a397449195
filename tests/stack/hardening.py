"""What every container of the project must be: without rights, and without ways out."""

from log import require
from project import Project

OUTWARD = """
import socket
try:
    socket.create_connection(("{host}", {port}), timeout=3)
except OSError as error:
    print("refused", error)
else:
    print("connected")
"""
# An address of the outside world that no name is needed for, and what this machine itself listens on.
ANYWHERE = ("1.1.1.1", 53)
PROCESS = {"CapPrm": "0" * 16, "CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}


def check_rights(project: Project, service: str) -> None:
    """Not root, nothing writable but tmpfs and volumes, no capability, under limits."""
    for container in project.containers(service):
        host, name = container["HostConfig"], container["Name"]
        require(host["ReadonlyRootfs"], f"{name}: its root file system can be written")
        require(host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{name}: it has capabilities")
        require(not host["Privileged"], f"{name}: it is privileged")
        require(host["Memory"] and host["NanoCpus"] and host["PidsLimit"], f"{name}: it has no limits")
        require(host["LogConfig"]["Config"].get("max-size"), f"{name}: its log grows for ever")
        environment = " ".join(container["Config"]["Env"])
        for secret in (project.folder / "secrets").iterdir():
            require(secret.read_text().strip() not in environment, f"{name}: {secret.name} is in its environment")
    require(project.exec(service, "id", "-u").stdout.strip() != "0", f"{service} runs as root")
    require(project.exec(service, "touch", "/here", check=False).returncode, f"{service} writes to its root")
    said = project.exec(service, "cat", "/proc/1/status").stdout
    status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    for fact, expected in PROCESS.items():
        require(status[fact] == expected, f"{service}: {fact} is {status[fact]}, not {expected}")


def check_published(project: Project) -> None:
    """Nothing but the proxy before the gateway, and that on loopback."""
    for service in project.services():
        for container in project.containers(service):
            bound = [at for ports in container["HostConfig"]["PortBindings"].values() for at in ports or []]
            if service == "proxy":
                require({at["HostIp"] for at in bound} == {"127.0.0.1"}, f"the proxy is published at {bound}")
            else:
                require(not bound, f"{service} is published at {bound}")


def has_default_route(project: Project, service: str) -> bool:
    routes = project.exec(service, "cat", "/proc/net/route").stdout.splitlines()[1:]
    require(routes, f"{service} has no network at all")
    return any(route.split()[1] == "00000000" for route in routes)


def check_no_way_out(project: Project, service: str) -> None:
    """No default route, and no connection to anywhere outside or to the engine's own host."""
    require(not has_default_route(project, service), f"{service} has a default route")
    for host, port in (ANYWHERE, ("198.18.0.1", 22)):
        said = project.python(service, OUTWARD.format(host=host, port=port))
        require(said.startswith("refused"), f"{service} reached {host}:{port}")
