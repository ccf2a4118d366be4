// Reads which kernels an ELF image holds, and for which device: as much of the format as nvcc 13 writes.
#include "driver.h"

#include <cstring>
#include <elf.h>

namespace sconce::driver {
namespace {

constexpr Elf64_Half MACHINE_CUDA = 190;
// Since this version the capability stands in the second byte of the flags.
constexpr unsigned char ABI_VERSION = 8;
constexpr char CODE_PREFIX[] = ".text.";

} // namespace

Result read_cubin(const void* image, int64_t capability, std::set<std::string>& kernels) {
    const auto* start = static_cast<const char*>(image);
    Elf64_Ehdr header;
    memcpy(&header, start, sizeof header);
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != MACHINE_CUDA ||
        header.e_ident[EI_ABIVERSION] != ABI_VERSION || header.e_shentsize != sizeof(Elf64_Shdr)) {
        return INVALID_IMAGE;
    }
    const int64_t built_for = header.e_flags >> 8 & 0xff;
    if (built_for / 10 != capability / 10 || built_for > capability) {
        return NO_BINARY_FOR_GPU;
    }
    std::vector<Elf64_Shdr> sections(header.e_shnum);
    memcpy(sections.data(), start + header.e_shoff, sections.size() * sizeof(Elf64_Shdr));
    const char* names = start + sections[header.e_shstrndx].sh_offset;
    for (const Elf64_Shdr& section : sections) {
        const char* name = names + section.sh_name;
        if (strncmp(name, CODE_PREFIX, strlen(CODE_PREFIX)) == 0) {
            kernels.insert(name + strlen(CODE_PREFIX));
        }
    }
    return SUCCESS;
}

} // namespace sconce::driver
