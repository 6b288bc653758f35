"""Commands at random from the schema that a program tells of itself (`query-qmp-schema`).

A member's value is drawn from its type; that of a name or number from what is likely to be there, by the member's name. A few
values are wrong on purpose.
"""

SIZES = (0, 1, 3, 511, 512, 4096, 65536, 65536, 1 << 20, 1 << 20, 3 << 20, 4 << 20, 4 << 20, 8 << 20, 8 << 20)
NUMBERS = (0, 0, 1, 1, 2, 3, 7, 16)
FAR = (-1, -(1 << 63), 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)

# Which names a member of a command is about.
NODES = {"node-name", "device", "node", "target", "base-node", "top-node", "overlay", "parent", "bottom", "replaces",
         "filter-node-name", "snapshot-node-name", "reference", "file", "backing", "image", "qdev"}
JOBS = {"job-id"}
FILES = {"filename", "snapshot-file", "backing-file", "base", "top", "path", "image-node-name", "data-file"}
BITMAPS = {"bitmap", "name", "target"}

# Their `device` is one, or its `id`.
OF_DEVICES = {"eject", "change", "blockdev-open-tray", "blockdev-close-tray", "blockdev-change-medium", "block_set_io_throttle"}


class Grammar:
    """Draws commands."""

    def __init__(self, schema, names, rng, left_out=()):
        self.types = {entity["name"]: entity for entity in schema}
        self.names, self.rng = names, rng
        self.commands = sorted(entity["name"] for entity in schema
                               if entity["meta-type"] == "command" and entity["name"] not in left_out)

    def command(self, name=None):
        """A command and its arguments; `name`, or any one."""
        name = name or self.rng.choice(self.commands)
        arguments = self.value(self.types[name]["arg-type"], name, "", 0)
        return name, arguments

    def likely(self, share):
        return self.rng.random() < share

    def value(self, kind, command, member, depth):
        if self.likely(0.01):
            return self.rng.choice((None, True, -1, "x", [], {}, 1.5, "\u00e9\n", [[]]))
        entity = self.types[kind]
        return getattr(self, entity["meta-type"])(entity, command, member, depth)

    def builtin(self, entity, command, member, depth):
        kind = entity["json-type"]
        if kind == "string":
            return self.string(command, member)
        if kind in ("int", "number"):
            if self.likely(0.06):
                return self.rng.choice(FAR)
            small = any(word in member for word in ("speed", "size", "offset", "length", "bps", "threshold", "limit"))
            return self.rng.choice(SIZES if small else NUMBERS)
        if kind == "boolean":
            return self.likely(0.5)
        return None if kind == "null" else self.rng.choice((0, "x", True))

    def string(self, command, member):
        names = self.names
        if self.likely(0.03):
            return self.rng.choice(("", "1x", "x" * 300, "nope", "a b", "#block000", "\u00fc", "../x"))
        if command.startswith(("job-", "block-job-")) and member in ("id", "device") or member in JOBS:
            return self.rng.choice(names.jobs())
        if command.startswith("block-export") and member == "id":
            return self.rng.choice(names.exports())
        if command.startswith("drive-") and member == "target" or member in FILES:
            return self.rng.choice(names.files())
        if "bitmap" in command and member in BITMAPS or member == "bitmap":
            return self.rng.choice(names.bitmaps())
        if member == "device" and command in OF_DEVICES:
            return self.rng.choice(names.devices())
        if member in NODES:
            return self.rng.choice(names.nodes())
        if member in ("format", "backing-fmt"):
            return self.rng.choice(("qcow2", "qcow2", "raw", "nope"))
        if member == "throttle-group" or member == "group":
            return self.rng.choice(names.groups)
        if member in ("id", "device") and self.likely(0.7):
            return self.rng.choice(names.devices())
        return self.rng.choice(names.any())

    def enum(self, entity, command, member, depth):
        if self.likely(0.02):
            return "nonsense"
        names = [each["name"] for each in entity["members"]]
        if member == "driver" or "qcow2" in names:
            usual = [name for name in ("qcow2", "qcow2", "qcow2", "raw", "file", "null-co", "throttle", "copy-on-read",
                                       "copy-before-write", "compress", "preallocate") if name in names]
            if usual and self.likely(0.9):
                return self.rng.choice(usual)
        return self.rng.choice(names)

    def array(self, entity, command, member, depth):
        count = self.rng.choice((0, 1, 1, 1, 2, 3)) if depth < 4 else 0
        return [self.value(entity["element-type"], command, member, depth + 1) for _ in range(count)]

    def alternate(self, entity, command, member, depth):
        kinds = [each["type"] for each in entity["members"]]
        if depth > 4 or (member in ("backing", "target") and self.likely(0.6)):
            kinds = [kind for kind in kinds if self.types[kind]["meta-type"] != "object"] or kinds
        return self.value(self.rng.choice(kinds), command, member, depth + 1)

    def object(self, entity, command, member, depth):
        result = {}
        wanted = 0.15 if depth < 5 else 0.0
        for each in entity["members"]:
            name = each["name"]
            optional = "default" in each
            # Without these a call mostly ends at its first look at the arguments.
            useful = name in ("node-name", "job-id", "id", "snapshot-node-name", "device") and depth < 2
            if optional and not self.likely(0.8 if useful else wanted):
                continue
            if not optional and self.likely(0.01):
                continue
            result[name] = self.value(each["type"], command, name, depth + 1)
        if {"device", "id"} <= result.keys() and command not in ("blockdev-add", "device_add") and self.likely(0.9):
            result.pop(self.rng.choice(("device", "id")))
        tag = entity.get("tag")
        if tag and isinstance(result.get(tag), str):
            for variant in entity["variants"]:
                if variant["case"] == result[tag] and self.types[variant["type"]]["meta-type"] == "object":
                    more = self.object(self.types[variant["type"]], command, member, depth + 1)
                    result.update(more)
        if self.likely(0.01):
            result["unexpected"] = 1
        return result
