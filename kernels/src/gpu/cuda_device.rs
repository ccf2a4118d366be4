//! What a device and its driver are, and which kernels run on it: known before there is a context.

use cudarc::driver::{result, sys};

use super::cubins::{CUBINS, Cubin};
use super::cuda_error::{checked, failed};
use super::driver::DeviceInfo;
use super::error::GpuError;

pub(super) fn driver_version() -> Result<i32, GpuError> {
    let mut version = 0;
    // SAFETY: writes one integer.
    checked("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&mut version).result() })?;
    Ok(version)
}

pub(super) fn describe(device: sys::CUdevice, version: i32) -> Result<DeviceInfo, GpuError> {
    use sys::CUdevice_attribute as Attribute;
    let attribute = |attribute| {
        // SAFETY: the device exists.
        let value = unsafe { result::device::get_attribute(device, attribute) };
        value.map(|value| u32::try_from(value).unwrap_or(0)).map_err(|error| failed("cuDeviceGetAttribute", error))
    };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    // SAFETY: the device exists.
    let memory_bytes =
        unsafe { result::device::total_mem(device) }.map_err(|error| failed("cuDeviceTotalMem", error))?;
    Ok(DeviceInfo {
        name: result::device::get_name(device).map_err(|error| failed("cuDeviceGetName", error))?,
        capability: 10 * major + minor,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        memory_bytes,
        driver: dotted(version),
    })
}

/// The kernels for a device: those of its own capability, or of a lower one of the same major number. Machine code for
/// 9.0 is made with Hopper's own instructions and runs there only.
pub(super) fn cubins_for(info: &DeviceInfo) -> Result<impl Iterator<Item = &'static Cubin> + use<>, GpuError> {
    let runs = |built: u32| built / 10 == info.capability / 10 && built <= info.capability;
    let best = CUBINS.iter().map(|cubin| cubin.capability).filter(|built| runs(*built)).max();
    let best = best.ok_or_else(|| {
        let mut built: Vec<u32> = CUBINS.iter().map(|cubin| cubin.capability).collect();
        built.sort_unstable();
        built.dedup();
        let capability = |number: u32| format!("{}.{}", number / 10, number % 10);
        GpuError::UnsupportedDevice {
            name: info.name.clone(),
            found: capability(info.capability),
            built: built.into_iter().map(capability).collect::<Vec<_>>().join(", "),
        }
    })?;
    Ok(CUBINS.iter().filter(move |cubin| cubin.capability == best))
}

/// `13000` as `13.0`.
pub(super) fn dotted(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}
