"""The command lines of programs that stand on QEMU's, as their sources have them (2026-08), beside QEMU's own programs.

File names are others, and shorter; sizes are smaller where only time depends on them, and so is `iter-time`. `prlimit`, `env` and the
like stand as they do there: memory is bounded by what those programs think is enough. Libvirt's are in
`crates/cairn/tests/beside_peer/libvirt.rs`.

    CAIRN_TEST_CALLERS   callers to try, of the names below (all)
"""

import os

from beside import Beside
from harness import main, proof

# What every caller finds in its folder.
WORLD = [
    "qemu-img create -q -f raw base.raw 8M",
    "qemu-io -f raw -c 'write -P 1 1M 2M' -c 'write -P 2 7M 64k' base.raw",
    "qemu-img convert -f raw -O qcow2 base.raw base.qcow2",
    "qemu-img convert -f raw -O vmdk base.raw base.vmdk",
    "qemu-img convert -f raw -O vhdx base.raw base.vhdx",
    "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2",
    "qemu-io -f qcow2 -c 'write -P 3 4M 128k' top.qcow2",
    "qemu-img convert -c -f raw -O qcow2 base.raw packed.qcow2",
    "sh -c 'printf passphrase >key; printf other >key2'",
]

# What those find there that know of encryption.
SEALED = [
    "qemu-img create -q -f luks --object secret,id=s,file=key -o key-secret=s,iter-time=10 sealed.luks 8M",
    "qemu-img create -q -f qcow2 --object secret,id=s,file=key -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 sealed.qcow2 8M",
    "qemu-io --object secret,id=s,file=key --image-opts driver=qcow2,file.filename=sealed.qcow2,encrypt.key-secret=s -c 'write -P 4 0 8M'",
]

# Name, where its sources have it, lines, disks that come of them.
CALLERS = [
    ("Nova", "nova/privsep/qemu.py, nova/virt/images.py, nova/virt/libvirt/{utils,driver}.py, nova/virt/disk/api.py", [
        "prlimit --as=1073741824 --cpu=30 -- env LC_ALL=C LANG=C qemu-img info base.qcow2 --force-share --output=json",
        "prlimit --as=1073741824 --cpu=30 -- env LC_ALL=C LANG=C qemu-img info base.qcow2 --force-share --output=json -f qcow2",
        "prlimit --as=1073741824 --cpu=30 -- env LC_ALL=C LANG=C qemu-img info base.raw --force-share --output=json -f raw",
        "prlimit --as=1073741824 --cpu=30 -- env LC_ALL=C LANG=C qemu-img info base.vmdk --force-share --output=json",
        "prlimit --as=1073741824 --cpu=30 -- env LC_ALL=C LANG=C qemu-img info top.qcow2 --force-share --output=json",
        "prlimit --as=1073741824 --cpu=30 -- env LC_ALL=C LANG=C qemu-img info nowhere --force-share --output=json",
        "qemu-img convert -t none -O raw -f qcow2 base.qcow2 nova.raw",
        "qemu-img convert -t writeback -O raw -f vmdk base.vmdk nova2.raw",
        "qemu-img convert -t none -O qcow2 -f raw base.raw nova.raw_qcow",
        "qemu-img convert -t none -O qcow2 -f qcow2 -c top.qcow2 snapshot.qcow2",
        "qemu-img convert -t none -O raw base.qcow2 unsafe.raw",
        "qemu-img convert -t none -O parallels -f raw base.raw snapshot.ploop",
        "qemu-img convert -t none -O qcow2 --object secret,id=sec0,file=key --image-opts driver=luks,file.driver=file,file.filename=sealed.luks,key-secret=sec0 opened.qcow2",
        "qemu-img convert -t none -O luks -f raw --object secret,id=sec1,file=key -o key-secret=sec1 -o cipher-alg=aes-256 -o cipher-mode=xts -o hash-alg=sha256 -o iter-time=10 -o ivgen-alg=plain64 -o ivgen-hash-alg=sha256 base.raw nova.luks",
        "qemu-img convert -t none -O qcow2 -f raw --object secret,id=sec1,file=key -o encrypt.key-secret=sec1 -o encrypt.format=luks -o encrypt.cipher-alg=aes-256 -o encrypt.cipher-mode=xts -o encrypt.hash-alg=sha256 -o encrypt.iter-time=10 -o encrypt.ivgen-alg=plain64 -o encrypt.ivgen-hash-alg=sha256 base.raw nova-sealed.qcow2",
        "env LC_ALL=C LANG=C qemu-img create -f qcow2 -o backing_file=base.raw,backing_fmt=raw disk 10737418240",
        "env LC_ALL=C LANG=C qemu-img create -f qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2,cluster_size=65536 disk2",
        "env LC_ALL=C LANG=C qemu-img create -f raw disk.raw 64M",
        "env LC_ALL=C LANG=C qemu-img create -f qcow2 --object secret,id=sec,file=key -o encrypt.key-secret=sec -o encrypt.format=luks -o encrypt.cipher-alg=aes-256 -o encrypt.cipher-mode=xts -o encrypt.hash-alg=sha256 -o encrypt.iter-time=10 -o encrypt.ivgen-alg=plain64 -o encrypt.ivgen-hash-alg=sha256 disk3 64M",
        "qemu-img resize -f raw disk.raw 134217728",
        "qemu-img resize -f qcow2 disk 21474836480",
        "qemu-img rebase -b base.qcow2 -F qcow2 disk2",
        "qemu-img rebase -b '' disk2",
    ], [
        ("raw", "nova.raw"), ("raw", "nova2.raw"), ("qcow2", "nova.raw_qcow"), ("qcow2", "snapshot.qcow2"), ("raw", "unsafe.raw"), ("parallels", "snapshot.ploop"), ("qcow2", "disk"), ("qcow2", "disk2"), ("raw", "disk.raw"),
    ]),
    ("Glance", "glance/async_/flows/{base_import,convert,introspect}.py, glance/async_/flows/plugins/image_conversion.py", [
        "prlimit --as=1073741824 --cpu=20 -- qemu-img info --output=json base.qcow2",
        "prlimit --as=1073741824 --cpu=20 -- qemu-img info -f qcow2 --output=json base.qcow2",
        "prlimit --as=1073741824 --cpu=20 -- qemu-img info -f raw --output=json base.qcow2",
        "prlimit --as=1073741824 --cpu=20 -- qemu-img info -f vhdx --output=json base.vhdx",
        "qemu-img convert -f qcow2 -O raw base.qcow2 image.raw",
        "qemu-img convert -f raw -O qcow2 base.raw image.converted",
        "qemu-img convert -f vhdx -O vmdk base.vhdx image.vmdk",
    ], [
        ("raw", "image.raw"), ("qcow2", "image.converted"), ("vmdk", "image.vmdk"),
    ]),
    ("Cinder", "cinder/image/image_utils.py, cinder/volume/drivers/{remotefs,nfs,quobyte,rbd}.py", [
        "prlimit --as=1073741824 --cpu=30 -- env LC_ALL=C qemu-img info -f qcow2 --output=json base.qcow2",
        "prlimit --as=1073741824 --cpu=30 -- env LC_ALL=C qemu-img info -f raw --output=json --force-share sealed.luks",
        "prlimit --as=1073741824 --cpu=30 -- env LC_ALL=C qemu-img info -f luks --output=json base.raw",
        "qemu-img convert -O raw -t none -f qcow2 base.qcow2 volume.raw",
        "qemu-img convert -O raw -S 0 -f vmdk base.vmdk volume2.raw",
        "qemu-img convert -O vpc -o subformat=fixed -f raw base.raw upload.vhd",
        "qemu-img convert -O qcow2 -c -f raw base.raw upload.qcow2",
        "qemu-img convert -O raw base.vhdx ami.raw",
        "qemu-img convert -O luks -o cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,iter-time=10 -f raw --object secret,id=luks_sec,format=raw,file=key -o key-secret=luks_sec base.raw volume.luks",
        "qemu-img convert --object secret,id=sec1,format=raw,file=key --object secret,id=sec2,format=raw,file=key2 --image-opts encrypt.format=luks,encrypt.key-secret=sec1,file.filename=sealed.qcow2 -O luks -o key-secret=sec2,iter-time=10 again.luks",
        "qemu-img resize -f raw volume.raw 1G",
        "qemu-img resize volume2.raw 1G",
        "qemu-img create -f qcow2 -o preallocation=metadata nfs.qcow2 1073741824",
        "qemu-img create -f qcow2 -o backing_file=base.raw,backing_fmt=raw snap 1G",
        "qemu-img rebase -u -b base.raw -F raw snap",
        "qemu-img rebase -u -b base.raw snap -F raw",
        "qemu-io -f qcow2 -c 'write -P 9 0 64k' snap",
        "qemu-img commit -d snap",
        "qemu-img create -f luks -o cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,iter-time=10 --object secret,id=luks_sec,format=raw,file=key -o key-secret=luks_sec rbd.luks 8M",
        r"""qemu-img create -fqcow2 -o encrypt.format=luks,encrypt.key-secret=s1,encrypt.cipher-alg=aes-256,encrypt.cipher-mode=xts,encrypt.ivgen-alg=plain64,encrypt.iter-time=10 -F qcow2 -b 'json:{"driver": "qcow2", "encrypt.key-secret": "s0", "file": {"driver": "file", "filename": "sealed.qcow2"}}' --object secret,id=s0,file=key --object secret,id=s1,file=key snap2""",
        "qemu-img rebase --object secret,id=s0,file=key --image-opts encrypt.key-secret=s0,file.filename=snap2 -u -b sealed.qcow2 -F qcow2",
        "qemu-img commit --object secret,id=s0,format=raw,file=key --image-opts -d file.filename=snap2,encrypt.format=luks,encrypt.key-secret=s0,backing.file.filename=sealed.qcow2,backing.encrypt.key-secret=s0",
    ], [
        ("raw", "volume.raw"), ("raw", "volume2.raw"), ("vpc", "upload.vhd"), ("qcow2", "upload.qcow2"), ("raw", "ami.raw"), ("qcow2", "nfs.qcow2"), ("raw", "base.raw"),
    ]),
    ("Ironic", "ironic/common/qemu_img.py, ironic_python_agent/qemu_img.py", [
        "prlimit --as=2147483648 -- env LC_ALL=C LANG=C qemu-img info base.qcow2 --output=json",
        "prlimit --as=2147483648 -- env LC_ALL=C LANG=C qemu-img info base.qcow2 --output=json -f qcow2",
        "prlimit --as=2147483648 -- env LC_ALL=C MALLOC_ARENA_MAX=3 qemu-img convert -f qcow2 -O raw base.qcow2 ironic.raw",
        "prlimit --as=2147483648 -- env LC_ALL=C MALLOC_ARENA_MAX=3 qemu-img convert -O raw -t directsync -S 0 -f qcow2 -W base.qcow2 ironic2.raw",
    ], [
        ("raw", "ironic.raw"), ("raw", "ironic2.raw"),
    ]),
    ("CDI", "pkg/image/qemu.go, pkg/image/exec.go", [
        "qemu-img info --output=json base.qcow2",
        "qemu-img convert -t writeback -p -O raw base.qcow2 cdi.img",
        "qemu-img convert -t none -p -O raw base.vmdk cdi2.img",
        "qemu-img convert -o preallocation=falloc -t writeback -p -O raw base.qcow2 cdi3.img",
        "qemu-img convert -o preallocation=full -t writeback -p -O raw base.qcow2 cdi4.img",
        "qemu-img convert -S 0 -t writeback -p -O raw base.vhdx cdi5.img",
        "qemu-img resize -f raw cdi.img 16777216",
        "qemu-img resize --preallocation=falloc -f raw cdi2.img 16777216",
        "qemu-img resize --preallocation=full -f raw cdi3.img 16777216",
        "qemu-img create -f raw blank.img 33554432",
        "qemu-img create -f raw blank2.img 33554432 -o preallocation=falloc",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 delta.qcow2",
        "qemu-io -f qcow2 -c 'write -P 5 2M 64k' delta.qcow2",
        "qemu-img rebase -p -u -F raw -b base.raw delta.qcow2",
        "qemu-img commit -p delta.qcow2",
    ], [
        ("raw", "cdi.img"), ("raw", "cdi2.img"), ("raw", "cdi3.img"), ("raw", "cdi4.img"), ("raw", "cdi5.img"), ("raw", "blank.img"), ("raw", "blank2.img"), ("raw", "base.raw"),
    ]),
    ("KubeVirt", "pkg/ephemeral-disk/ephemeral-disk.go, pkg/emptydisk/emptydisk.go, pkg/os/disk/{disk,validation}.go, pkg/virt-launcher/virtwrap/manager.go", [
        "qemu-img info base.qcow2 --output json",
        "bash -c 'ulimit -t 10 && ulimit -v 1048576 && qemu-img info base.qcow2 --output json'",
        "qemu-img create -f qcow2 -b base.raw -F raw ephemeral.qcow2",
        "qemu-img create -f qcow2 empty.qcow2 2147483648",
        "sh -c 'cp base.raw grown.img; qemu-img resize --preallocation=off grown.img 16777216'",
        "qemu-img resize --preallocation=falloc grown.img 33554432",
    ], [
        ("qcow2", "ephemeral.qcow2"), ("qcow2", "empty.qcow2"), ("raw", "grown.img"),
    ]),
    ("virt-v2v", "lib/utils.ml, lib/qemuNBD.ml, output/output.ml, v2v/v2v.ml (disks are made by libguestfs' disk_create)", [
        r"""sh -c 'truncate -s 1024 t.img; qemu-img info json:'"'"'{"file":{"driver":"raw","offset":512,"size":512,"file":{"filename":"t.img"}}}'"'"' >/dev/null 2>&1'""",
        r"""qemu-img info json:{"file":{"driver":"raw","offset":512,"size":512,"file":{"filename":"base.raw"}}}""",
        "qemu-img create -f qcow2 -o preallocation=off,compat=1.1 out.qcow2 8388608",
        "qemu-img create -f raw -o preallocation=full out.raw 8388608",
    ], [
        ("raw", "out.raw"),
    ]),
    ("Lima", "pkg/qemuimgutil/qemuimgutil.go, pkg/driver/qemu/qemu.go", [
        "qemu-img info --output=json --force-share base.qcow2",
        "qemu-img convert -O raw base.qcow2 lima.raw",
        "qemu-img create -f qcow2 lima.qcow2 107374182400",
        "qemu-img create -f raw lima2.raw 1073741824",
        "qemu-img resize -f qcow2 lima.qcow2 214748364800",
        "qemu-img resize -f raw lima.raw 1073741824",
        "qemu-img snapshot -c tag lima.qcow2",
        "qemu-img snapshot -a tag lima.qcow2",
        "qemu-img snapshot -d tag lima.qcow2",
        "qemu-img snapshot -l lima.qcow2",
    ], [
        ("raw", "lima.raw"), ("raw", "lima2.raw"), ("qcow2", "lima.qcow2"),
    ]),
    ("Proxmox", "pve-storage: src/PVE/Storage/{Common,Plugin,LVMPlugin,ISCSIDirectPlugin}.pm; qemu-server: src/PVE/QemuServer/QemuImage.pm (its dd with -n, osize= and the file name zeroinit: are not QEMU's)", [
        "qemu-img create -o preallocation=off -f raw vm.raw 8192K",
        "qemu-img create -o preallocation=metadata -f qcow2 vm.qcow2 8192K",
        "qemu-img create -o preallocation=falloc -f qcow2 vm2.qcow2 8192K",
        "qemu-img create -f vmdk vm.vmdk 8192K",
        "qemu-img create -F qcow2 -b base.qcow2 -f qcow2 clone.qcow2 -o extended_l2=on,cluster_size=128k,preallocation=metadata",
        "qemu-img create -F raw -b base.raw -f qcow2 clone2.qcow2 -o extended_l2=on,cluster_size=128k",
        "qemu-img info --output=json base.qcow2 -f qcow2",
        "qemu-img info --output=json top.qcow2 --backing-chain",
        "qemu-img info -f raw --output=json base.raw",
        "qemu-img measure --output=json --size 8388608K -O qcow2",
        "qemu-img measure --output=json --size 8388608K -O qcow2 -o extended_l2=on,cluster_size=128k",
        "qemu-img measure --output=json --size 8388608K -O raw",
        "qemu-img resize --preallocation=metadata -f qcow2 vm.qcow2 16777216",
        "qemu-img resize -f raw vm.raw 16777216",
        "qemu-img resize --preallocation=off -f qcow2 vm2.qcow2 16777216",
        "qemu-img snapshot -c snap vm.qcow2",
        "qemu-img snapshot -a snap vm.qcow2",
        "qemu-img convert -p -n -f qcow2 -O raw top.qcow2 vm.raw",
        "qemu-img convert -p -n -t none -T none -r 102400K -f qcow2 -O qcow2 top.qcow2 vm2.qcow2",
        "qemu-img convert -p -n -l snapshot.name=snap -f qcow2 -O raw vm.qcow2 vm.raw",
        "qemu-img convert -p -n -f raw --target-image-opts base.raw discard-no-unref=true,driver=qcow2,file.driver=file,file.filename=vm2.qcow2",
        "qemu-img convert -f qcow2 -O raw base.qcow2 /dev/stdout",
        "qemu-img snapshot -d snap vm.qcow2",
        "qemu-io -f qcow2 -c 'write -P 6 0 1M' clone.qcow2",
        "qemu-img commit clone.qcow2",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2",
        "qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 leaf.qcow2",
        "qemu-img rebase -b base.qcow2 -F qcow2 -f qcow2 leaf.qcow2",
        "sh -c 'qemu-img dd bs=64k if=base.raw -f raw -O raw of=dd.raw'",
    ], [
        ("raw", "vm.raw"), ("qcow2", "vm.qcow2"), ("qcow2", "vm2.qcow2"), ("vmdk", "vm.vmdk"), ("qcow2", "clone.qcow2"), ("qcow2", "clone2.qcow2"), ("qcow2", "base.qcow2"), ("qcow2", "leaf.qcow2"), ("raw", "dd.raw"),
    ]),
    ("OpenNebula", "src/tm_mad/**, src/datastore_mad/remotes/**, src/mad/sh/scripts_common.sh, src/tm_mad/lib/backup_image.rb", [
        r"""sh -c 'qemu-img info base.qcow2 | grep "^file format:" | cut -d" " -f3'""",
        "qemu-img info -U --output json top.qcow2",
        "qemu-img info top.qcow2 --output json --force-share",
        "qemu-img create -f raw one.raw 8M",
        "qemu-img create -f qcow2 one.qcow2 8M",
        "qemu-img create -f qcow2 -o backing_fmt=qcow2 -b base.qcow2 one.snap",
        "qemu-img create -o backing_fmt=qcow2 -b base.qcow2 -f qcow2 -o compat=0.10 one.snap2",
        "qemu-img convert -q -O qcow2 top.qcow2 one.0",
        "qemu-img convert top.qcow2 -O qcow2 one.1",
        "qemu-img convert -m 4 -O qcow2 top.qcow2 one.2",
        "qemu-img convert -m 4 -O raw top.qcow2 one.3",
        "qemu-img convert -f raw -O qcow2 base.raw one.4",
        "qemu-img resize one.qcow2 16M",
        "qemu-img resize --preallocation=falloc one.raw 16M",
        "qemu-img rebase -u -F qcow2 -b top.qcow2 one.snap",
        "qemu-img rebase -f qcow2 -F qcow2 -u -b base.qcow2 one.snap",
        "qemu-img rebase -u -b '' -F qcow2 one.snap2",
        "qemu-img bitmap --add one.qcow2 one-0-5 ",
        "qemu-img bitmap --remove one.qcow2 one-0-5",
        "qemu-img bitmap one.qcow2 --add one-0-6",
        "qemu-io -f qcow2 -c 'write -P 7 0 64k' one.snap",
        "qemu-img commit -f qcow2 -b base.qcow2 one.snap",
    ], [
        ("raw", "one.raw"), ("qcow2", "one.qcow2"), ("qcow2", "one.0"), ("qcow2", "one.1"), ("qcow2", "one.2"), ("qcow2", "one.4"), ("raw", "one.3"), ("qcow2", "base.qcow2"),
    ]),
    ("Incus", "internal/server/storage/drivers/utils_qcow2.go, internal/server/storage/utils.go, internal/server/instance/drivers/driver_qemu.go", [
        "qemu-img create -f qcow2 incus.qcow2 8388608b",
        "qemu-img create -f qcow2 -b base.qcow2 -F qcow2 incus2.qcow2 16777216b",
        "qemu-img measure --output=json -O qcow2 --size 8388608",
        "qemu-img resize incus.qcow2 16777216b",
        "qemu-img rebase -u -b top.qcow2 -F qcow2 incus2.qcow2",
        "qemu-img commit -f qcow2 incus2.qcow2",
        "qemu-img info -U --output=json top.qcow2",
        "qemu-img info -U --backing-chain --output=json top.qcow2",
        "prlimit --cpu=2 --as=1073741824 qemu-img info -f qcow2 --output=json base.qcow2",
        "nice -n19 qemu-img convert -p -f qcow2 -O raw -t writeback base.qcow2 incus.raw",
        "qemu-img convert -p -f raw -O qcow2 base.raw incus3.qcow2",
        "qemu-img create -f raw incus.data 8388608",
        "qemu-img create -f qcow2 -o data_file=incus.data,data_file_raw=on,preallocation=metadata incus4.qcow2 8388608",
    ], [
        ("qcow2", "incus.qcow2"), ("qcow2", "top.qcow2"), ("raw", "incus.raw"), ("qcow2", "incus3.qcow2"), ("raw", "incus.data"),
    ]),
    ("oVirt", "vdsm: lib/vdsm/storage/{qemuimg,nbd}.py; ovirt-imageio: ovirt_imageio/_internal/{qemu_img,qemu_nbd}.py", [
        "qemu-img info --output json -f qcow2 -U top.qcow2",
        "qemu-img info --output json -U --backing-chain top.qcow2",
        "prlimit --cpu=30 --as=1073741824 qemu-img info --output json base.qcow2",
        r"""qemu-img measure --output json --force-share -O qcow2 'json:{"file": {"driver": "file", "filename": "top.qcow2"}, "driver": "qcow2", "backing": null}'""",
        r"""qemu-img measure --output json -O qcow2 'json:{"file": {"driver": "file", "filename": "top.qcow2"}, "driver": "qcow2", "backing": {"driver": "qcow2", "file": {"driver": "file", "filename": "base.qcow2"}, "backing": null}}'""",
        r"""qemu-img measure --output json -O raw 'json:{"file": {"driver": "file", "filename": "base.raw"}, "driver": "raw"}'""",
        "qemu-img create -f qcow2 -o compat=1.1 v.qcow2 8388608",
        "qemu-img create -f qcow2 -o compat=1.1 -b base.qcow2 -F qcow2 -u v2.qcow2 8388608",
        "qemu-img create -f raw -o preallocation=falloc v.raw 8388608",
        "qemu-img create -f qcow2 -o compat=0.10 -o preallocation=metadata v3.qcow2 8388608",
        "qemu-img check --output json -f qcow2 top.qcow2",
        "qemu-img convert -p -t none -T none -f raw -O qcow2 -o compat=1.1 base.raw v4.qcow2",
        "qemu-img convert -p -t none -T none -f qcow2 -O qcow2 -o compat=1.1,backing_file=base.qcow2,backing_fmt=qcow2 top.qcow2 v5.qcow2",
        "qemu-img convert -p -t none -T none -f qcow2 -O raw -n --target-is-zero -W base.qcow2 v.raw",
        "qemu-img convert -p -t none -T none -f raw -O qcow2 -o compat=1.1 -c base.raw v6.qcow2",
        "qemu-img bitmap --add --enable v4.qcow2 bitmap1",
        "qemu-img bitmap --add --disable v4.qcow2 bitmap2 -g 65536",
        "qemu-img bitmap --disable v4.qcow2 bitmap1",
        "qemu-img bitmap --enable v4.qcow2 bitmap1",
        "qemu-img bitmap --merge bitmap1 -F qcow2 -b v4.qcow2 v4.qcow2 bitmap2",
        "qemu-img convert -p -t none -T none -f qcow2 -O qcow2 -o compat=1.1 --bitmaps --skip-broken-bitmaps v4.qcow2 v7.qcow2",
        "qemu-img bitmap --remove v4.qcow2 bitmap1",
        "qemu-img map --output json base.qcow2",
        "qemu-img amend -o compat=1.1 v3.qcow2",
        "qemu-img resize -f qcow2 v.qcow2 16777216",
        "qemu-img rebase -t none -T none -u -f qcow2 -F qcow2 -b base.qcow2 v2.qcow2",
        "qemu-img rebase -t none -T none -f qcow2 -F qcow2 -b top.qcow2 v5.qcow2",
        "qemu-img compare -p -f raw -F qcow2 -s base.raw base.qcow2",
        "qemu-img compare -p -f qcow2 -F qcow2 base.qcow2 top.qcow2",
        "qemu-io -f qcow2 -c 'write -P 8 0 64k' v2.qcow2",
        "qemu-img commit -p -t none -b base.qcow2 -f qcow2 v2.qcow2",
        "qemu-img commit -p -t none -d -f qcow2 v5.qcow2",
    ], [
        ("raw", "v.raw"), ("qcow2", "v.qcow2"), ("qcow2", "v2.qcow2"), ("qcow2", "v3.qcow2"), ("qcow2", "v4.qcow2"), ("qcow2", "v5.qcow2"), ("qcow2", "v6.qcow2"), ("qcow2", "v7.qcow2"), ("qcow2", "base.qcow2"), ("qcow2", "top.qcow2"),
    ]),
]


def prove(name, sources, lines, disks):
    @proof(f"{name}'s command lines are answered as by QEMU ({sources})", ["peer:qemu-img", "prlimit"])
    def _(place):
        beside = Beside(place)
        beside.given(*WORLD, *(SEALED if name in ("Nova", "Cinder") else []))
        beside.same(*lines)
        for format, image in disks:
            beside.same_disk(format, image)
        beside.end()


ASKED = os.environ.get("CAIRN_TEST_CALLERS", ",".join(name for name, *_ in CALLERS)).split(",")
for caller in CALLERS:
    if caller[0] in ASKED:
        prove(*caller)


def serving(serve, work, signal="TERM", after="true"):
    """A shell line that serves (each of `serve` with its own pid file), does the work, and ends the servers."""
    files = [f"{index}.pid" for index in range(len(serve))]
    started = " ".join(f"{line} --pid-file=$PWD/{file} &" for line, file in zip(serve, files))
    waited = " || ".join(f"[ ! -s {file} ]" for file in files)
    ended = f"kill -{signal} $(cat {' '.join(files)})"
    return f"sh -c 'rm -f {' '.join(files)}; {started} while {waited}; do sleep 0.01; done; {work}; {ended}; wait; {after}'"


@proof("virt-v2v copies a disk from one server to another as with QEMU's (lib/qemuNBD.ml, output/output.ml, v2v/v2v.ml, input/input_ova.ml)",
       ["peer:qemu-nbd", "nbdcopy", "nbdinfo"])
def _(place):
    beside = Beside(place)
    beside.given(*WORLD, "qemu-img create -q -f qcow2 -o preallocation=off,compat=1.1 out.qcow2 8388608",
                 "qemu-img create -q -f qcow2 packed-out.qcow2 8388608",
                 "sh -c '(head -c 512 /dev/zero; cat base.vmdk; head -c 512 /dev/zero) >disk.ova'")
    server = "qemu-nbd -t --shared=0 --discard=unmap --socket $PWD/"
    copy = ("nbdinfo --content \"nbd+unix:///?socket=in\" | grep -v uri; nbdinfo --no-content \"nbd+unix:///?socket=out\" | grep -v \"uri\\|block_size\"; "
            "nbdcopy \"nbd+unix:///?socket=in\" \"nbd+unix:///?socket=out\" --requests=64 --flush")
    size = os.path.getsize(os.path.join(beside.folders["peer"], "base.vmdk"))
    ova = f'json:{{\\"file\\":{{\\"driver\\":\\"raw\\",\\"offset\\":512,\\"size\\":{size},\\"file\\":{{\\"driver\\":\\"file\\",\\"filename\\":\\"disk.ova\\"}}}}}}'
    compress = "--image-opts driver=compress,file.driver=qcow2,file.file.driver=file,file.file.filename=packed-out.qcow2"
    for source, target in (
        ("-s --format qcow2 top.qcow2", "--format qcow2 out.qcow2"),
        ("-s --format vmdk base.vmdk", compress),
        (f'-s "{ova}"', "--format qcow2 out.qcow2"),
    ):
        beside.same(serving([f"{server}in {source}", f"{server}out {target}"], copy))
    beside.same_disk("qcow2", "out.qcow2")
    beside.same_disk("qcow2", "packed-out.qcow2")
    # Before it gives --selinux-label it looks for that in the help; ours has no labels, and says so.
    beside.ours_alone("sh -c 'qemu-nbd --help | grep -sq selinux'", 1)
    beside.end()


@proof("CDI imports from nbdkit as with QEMU's programs (pkg/image/nbdkit.go, pkg/image/qemu.go)", ["peer:qemu-img", "nbdkit"])
def _(place):
    beside = Beside(place)
    beside.given(*WORLD)
    nbdkit = "nbdkit --foreground --readonly --exit-with-parent -U $PWD/nbdkit.sock --pidfile $PWD/nbdkit.pid --filter=readahead --filter=retry file"
    for image in ("base.qcow2", "base.vmdk", "packed.qcow2", "base.raw"):
        work = ("qemu-img info --output=json \"nbd+unix:///?socket=nbdkit.sock\"; "
                "qemu-img convert -t writeback -p -O raw \"nbd+unix:///?socket=nbdkit.sock\" imported.img")
        beside.same(f"sh -c 'rm -f nbdkit.pid nbdkit.sock imported.img; {nbdkit} {image} & while [ ! -s nbdkit.pid ]; do sleep 0.01; done; {work}; kill $(cat nbdkit.pid); wait'")
        beside.same_disk("raw", "imported.img")
    beside.end()


@proof("OpenNebula's and oVirt's backups of dirty bitmaps go as with QEMU's programs (src/tm_mad/lib/backup_image.rb; ovirt_imageio/_internal/qemu_nbd.py)",
       ["peer:qemu-nbd", "nbdinfo"])
def _(place):
    beside = Beside(place)
    beside.given(*WORLD, "qemu-img bitmap --add top.qcow2 one-0-5", "qemu-io -f qcow2 -c 'write -P 7 64k 192k' -c 'write -z 5M 64k' top.qcow2")
    uri = "nbd+unix:///?socket=s"
    script = f"open -C -t none -i native -o driver=qcow2 increment\\nread -q 65536 196608\\nread -q 5242880 65536\\n"
    work = (f'nbdinfo "{uri}" --json --map=qemu:dirty-bitmap:one-0-5; qemu-img create increment -f qcow2 -F raw -b "{uri}"; '
            f'printf "{script}" | qemu-io')
    # A shell has its background ignore SIGQUIT.
    beside.same(serving(["env --default-signal=QUIT qemu-nbd -r -k $PWD/s -f qcow2 -t -B one-0-5 top.qcow2"], work, "QUIT", "rm s"))
    beside.same("qemu-img rebase -u -f qcow2 -b base.qcow2 -F qcow2 increment", "qemu-img map --output=json increment")
    beside.same_disk("qcow2", "increment")
    image = 'json:{\\"driver\\":\\"qcow2\\",\\"file\\":{\\"driver\\":\\"file\\",\\"filename\\":\\"top.qcow2\\"}}'
    maps = "; ".join(f'nbdinfo --json --map={name} "{uri}"' for name in ("base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:one-0-5"))
    for cache in ("--cache=none --aio=native", "--cache=writeback --aio=threads"):
        line = (f'qemu-nbd --export-name= --persistent --shared=8 --socket=$PWD/s --read-only {cache} --discard=unmap --detect-zeroes=unmap '
                f'--bitmap=one-0-5 --allocation-depth "{image}"')
        beside.same(serving([line], maps))
    beside.end()


main("callers")
