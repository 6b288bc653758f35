//! The models of a guest's devices that scripts name: which of them use a drive, and how.

/// What a model is to the block layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A disk: its medium stays in.
    Disk,
    /// A CD drive, with a tray; it only reads.
    Cd,
    /// A floppy drive: its medium can be changed, there is no tray to open.
    Floppy,
    /// Something that disks hang on, or that has nothing to do with them.
    Other,
}

/// A model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What the block layer knows is a part of it: that part's path follows the device's own.
    pub(crate) inner: Option<&'static str>,
}

impl Model {
    /// Whether it goes only when its guest agrees.
    pub(crate) fn asks_guest(self) -> bool {
        self.inner.is_some()
    }

    /// Whether it has no way to tell its guest that it takes no writes: its medium is one that does.
    pub(crate) fn must_write(self) -> bool {
        matches!(self.name, "ide-hd" | "sd-card")
    }
}

const fn disk(name: &'static str) -> Model {
    Model { name, kind: Kind::Disk, inner: None }
}

const fn virtio(name: &'static str) -> Model {
    Model { name, kind: Kind::Disk, inner: Some("virtio-backend") }
}

const fn other(name: &'static str) -> Model {
    Model { name, kind: Kind::Other, inner: None }
}

/// Flash memory, which a board has of itself.
pub(crate) const FLASH: &str = "cfi.pflash01";

const MODELS: &[Model] = &[
    virtio("virtio-blk"),
    virtio("virtio-blk-pci"),
    virtio("virtio-blk-pci-non-transitional"),
    virtio("virtio-blk-pci-transitional"),
    virtio("virtio-blk-ccw"),
    disk("virtio-blk-device"),
    disk("scsi-hd"),
    disk("scsi-block"),
    disk("scsi-generic"),
    disk("ide-hd"),
    disk("nvme"),
    disk("nvme-ns"),
    disk("usb-storage"),
    disk("sd-card"),
    disk(FLASH),
    Model { name: "scsi-cd", kind: Kind::Cd, inner: None },
    Model { name: "ide-cd", kind: Kind::Cd, inner: None },
    Model { name: "floppy", kind: Kind::Floppy, inner: None },
    other("virtio-scsi"),
    other("virtio-scsi-pci"),
    other("virtio-scsi-ccw"),
    other("virtio-scsi-device"),
    other("lsi53c895a"),
    other("lsi53c810"),
    other("am53c974"),
    other("dc390"),
    other("pvscsi"),
    other("megasas"),
    other("megasas-gen2"),
    other("mptsas1068"),
    other("ahci"),
    other("ich9-ahci"),
    other("piix3-ide"),
    other("piix4-ide"),
    other("isa-fdc"),
    other("sdhci-pci"),
    other("pci-bridge"),
    other("pcie-root-port"),
    other("pcie-pci-bridge"),
    other("pxb-pcie"),
    other("usb-ehci"),
    other("ich9-usb-ehci1"),
    other("piix3-usb-uhci"),
    other("nec-usb-xhci"),
    other("qemu-xhci"),
    other("virtio-rng-pci"),
    other("virtio-serial"),
    other("virtio-serial-pci"),
    other("isa-serial"),
    other("sclpconsole"),
];

/// The names of all models.
pub fn model_names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|model| model.name)
}

/// The model of this name.
pub(crate) fn find(name: &str) -> Option<Model> {
    MODELS.iter().find(|model| model.name == name).copied()
}
