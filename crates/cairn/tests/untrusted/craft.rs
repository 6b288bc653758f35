//! Images made byte by byte, as nobody's program makes them.

/// A qcow2 image of version 3 with an empty disk: a header, a refcount table and block, an L1 table; clusters of 64 KiB.
pub struct Qcow2 {
    bytes: Vec<u8>,
    extensions: Vec<(u32, Vec<u8>)>,
    backing: Option<String>,
}

const CLUSTER: usize = 65536;

pub const DATA_FILE: u32 = 0x4441_5441;
pub const BACKING_FORMAT: u32 = 0xe279_2aca;

impl Qcow2 {
    pub fn new(size: u64) -> Qcow2 {
        let mut image = Qcow2 { bytes: vec![0; 4 * CLUSTER], extensions: Vec::new(), backing: None };
        image.put(0, b"QFI\xfb\0\0\0\x03");
        image.put(20, &16u32.to_be_bytes());
        image.put(24, &size.to_be_bytes());
        let entries = size.div_ceil((CLUSTER / 8 * CLUSTER) as u64).clamp(1, 8192);
        image.put(36, &(entries as u32).to_be_bytes());
        image.put(40, &(3 * CLUSTER as u64).to_be_bytes());
        image.put(48, &(CLUSTER as u64).to_be_bytes());
        image.put(56, &1u32.to_be_bytes());
        image.put(96, &4u32.to_be_bytes());
        image.put(100, &104u32.to_be_bytes());
        image.put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
        for cluster in 0..4 {
            image.put(2 * CLUSTER + 2 * cluster, &1u16.to_be_bytes());
        }
        image
    }

    /// Writes bytes over what is there.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn with(mut self, at: usize, bytes: &[u8]) -> Qcow2 {
        self.put(at, bytes);
        self
    }

    /// Over a backing file of this name.
    pub fn over(self, name: &str, format: &str) -> Qcow2 {
        let extensions = vec![(BACKING_FORMAT, format.as_bytes().to_vec())];
        Qcow2 { backing: Some(name.to_owned()), extensions: [self.extensions, extensions].concat(), ..self }
    }

    /// With its content in a data file of this name.
    pub fn with_data_file(mut self, name: &str) -> Qcow2 {
        self.put(72, &4u64.to_be_bytes());
        self.extensions.push((DATA_FILE, name.as_bytes().to_vec()));
        self
    }

    pub fn bytes(mut self) -> Vec<u8> {
        let mut at = 104;
        for (kind, data) in std::mem::take(&mut self.extensions) {
            self.put(at, &kind.to_be_bytes());
            self.put(at + 4, &(data.len() as u32).to_be_bytes());
            self.put(at + 8, &data);
            at += 8 + data.len().next_multiple_of(8);
        }
        if let Some(name) = self.backing.take() {
            at += 8;
            self.put(8, &(at as u64).to_be_bytes());
            self.put(16, &(name.len() as u32).to_be_bytes());
            self.put(at, name.as_bytes());
        }
        self.bytes
    }
}

/// A VMDK descriptor of one flat extent.
pub fn vmdk_descriptor(extent: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\
         RW 2048 FLAT \"{extent}\" 0\nddb.adapterType = \"ide\"\n"
    )
}

/// A sparse VMDK header without a disk: programs open the extents of the descriptor that it carries.
pub fn vmdk_hollow(extent: &str) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    bytes[..4].copy_from_slice(b"KDMV");
    bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
    bytes[20..28].copy_from_slice(&128u64.to_le_bytes());
    bytes[28..36].copy_from_slice(&1u64.to_le_bytes());
    bytes[36..44].copy_from_slice(&20u64.to_le_bytes());
    bytes[44..48].copy_from_slice(&512u32.to_le_bytes());
    let descriptor = vmdk_descriptor(extent);
    bytes[512..512 + descriptor.len()].copy_from_slice(descriptor.as_bytes());
    bytes
}

/// A qed image of an empty disk over a backing file.
pub fn qed_over(name: &str) -> Vec<u8> {
    let mut bytes = vec![0; 3 * CLUSTER];
    bytes[..4].copy_from_slice(b"QED\0");
    for (at, number) in [(4, 65536u32), (8, 1), (12, 1), (56, 64), (60, name.len() as u32)] {
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    for (at, number) in [(16, 1u64 | 4), (40, 65536), (48, 1 << 20)] {
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    bytes[64..64 + name.len()].copy_from_slice(name.as_bytes());
    bytes
}

/// A qcow image (version 1) of an empty disk over a backing file.
pub fn qcow_over(name: &str) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x01");
    bytes[8..16].copy_from_slice(&64u64.to_be_bytes());
    bytes[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
    bytes[24..32].copy_from_slice(&(1u64 << 20).to_be_bytes());
    (bytes[32], bytes[33]) = (12, 9);
    bytes[40..48].copy_from_slice(&4096u64.to_be_bytes());
    bytes[64..64 + name.len()].copy_from_slice(name.as_bytes());
    bytes
}
