"""Ways to reach a device by name, as a device.yaml's `reach` says. A new one: one file and one row."""

from __future__ import annotations

REACHES: dict[str, str] = {
    "local": "mtnas.measure.reach.local:LocalReach",
    "hook": "mtnas.measure.reach.hook:HookReach",
    "ssh": "mtnas.measure.reach.ssh:SshReach",
}
