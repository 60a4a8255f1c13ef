//! The programs of the host that build an image, and the packages that bring
//! them. None of them needs a mount, a loop device or a foreign binfmt handler,
//! so a container without privileges is enough.

use crate::packages::Package;

const fn tool(name: &'static str, program: &'static str, why: &'static str) -> Package {
    Package { name, program, why }
}

/// What every image needs.
pub(super) const SIGNING: &[&Package] = &[&tool(
    "openssl",
    "openssl",
    "images and packages are signed",
)];

/// What a disk image needs besides.
pub(super) const DISK: &[&Package] = &[
    &tool("kmod", "depmod", "the kernel's modules are indexed"),
    &tool(
        "qemu-user-static",
        "qemu-aarch64-static",
        "the image's own systemd sets it up",
    ),
    &tool("cpio", "cpio", "the initramfs is an archive of it"),
    &tool(
        "squashfs-tools",
        "mksquashfs",
        "the root slots are squashfs",
    ),
    &tool("grub-common", "grub-mkimage", "GRUB is the boot loader"),
    &tool("dosfstools", "mkfs.fat", "the EFI partition is FAT"),
    &tool(
        "mtools",
        "mcopy",
        "the EFI partition is filled without a mount",
    ),
    &tool("e2fsprogs", "mke2fs", "the data partition is ext4"),
    &tool("gdisk", "sgdisk", "the disk is partitioned by GPT"),
    &tool("rauc", "rauc", "updates are RAUC bundles"),
];
