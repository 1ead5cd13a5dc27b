"""File-system trees of Jetsons as their kernels show them, written below a folder of a test's own.

The layouts follow what public posts show of each board and JetPack; the numbers are ours. Nothing
here was read on a board by this project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Iterable, Mapping, Tuple

__all__ = ["BOARDS", "build", "write"]

Files = Dict[str, object]


def write(root: Path, files: Mapping[str, object]) -> None:
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())


def build(name: str, root: Path) -> Path:
    """The tree of that board below `root`; returns `root`."""
    write(root, BOARDS[name]())
    return root


def _device_tree(model: str, *compatible: str) -> Files:
    return {
        "/proc/device-tree/model": model.encode() + b"\0",
        "/proc/device-tree/compatible": b"".join(name.encode() + b"\0" for name in compatible),
    }


def _l4t(release: int, revision: str) -> Files:
    line = f"# R{release} (release), REVISION: {revision}, GCID: 1, BOARD: generic, EABI: aarch64"
    return {"/etc/nv_tegra_release": line}


def _modes(now: int, *names: str) -> Files:
    table = [
        line
        for number, name in enumerate(names)
        for line in (f"< POWER_MODEL ID={number} NAME={name} >", "CPU_ONLINE CORE_0 1", "")
    ]
    return {
        "/etc/nvpmodel.conf": "\n".join([*table, "< PM_CONFIG DEFAULT=0 >"]),
        "/var/lib/nvpmodel/status": f"pmode:{now:04d}",
    }


def _memory(total_kib: int, available_kib: int, swap_kib: int = 0) -> Files:
    return {
        "/proc/meminfo": f"MemTotal: {total_kib} kB\nMemFree: 1 kB\nMemAvailable: {available_kib} "
        f"kB\nSwapTotal: {swap_kib} kB\nSwapFree: {swap_kib} kB"
    }


def _zones(**degrees: float) -> Files:
    files: Files = {}
    for index, (name, value) in enumerate(degrees.items()):
        place = f"/sys/class/thermal/thermal_zone{index}"
        files[f"{place}/type"] = name.replace("_", "-")
        files[f"{place}/temp"] = round(value * 1000)
    return files


def _devfreq(name: str, now_mhz: float, low_mhz: float, high_mhz: float) -> Files:
    place = f"/sys/class/devfreq/{name}"
    return {
        f"{place}/cur_freq": round(now_mhz * 1e6),
        f"{place}/min_freq": round(low_mhz * 1e6),
        f"{place}/max_freq": round(high_mhz * 1e6),
    }


def _cores(count: int, now_khz: int, high_khz: int) -> Files:
    files: Files = {}
    for core in range(count):
        place = f"/sys/devices/system/cpu/cpu{core}/cpufreq"
        files[f"{place}/scaling_cur_freq"] = now_khz - core * 1000
        files[f"{place}/scaling_min_freq"] = 115200
        files[f"{place}/scaling_max_freq"] = high_khz
    return files


def _ina3221(number: int, *rails: Tuple[str, int, int]) -> Files:
    place = f"/sys/class/hwmon/hwmon{number}"
    files: Files = {f"{place}/name": "ina3221"}
    for channel, (label, volts_mv, amps_ma) in enumerate(rails, 1):
        files[f"{place}/in{channel}_label"] = label
        files[f"{place}/in{channel}_input"] = volts_mv
        files[f"{place}/curr{channel}_input"] = amps_ma
        files[f"{place}/in{channel + 3}_input"] = 7  # the shunt's voltage, no rail
    files[f"{place}/in7_label"] = "sum of shunt voltages"
    files[f"{place}/in7_input"] = 21
    return files


def _iio(chip: str, rails: Iterable[Tuple[str, int]]) -> Files:
    place = f"/sys/bus/i2c/drivers/ina3221x/{chip}/iio:device0"
    files: Files = {}
    for channel, (label, power_mw) in enumerate(rails):
        files[f"{place}/rail_name_{channel}"] = label
        files[f"{place}/in_power{channel}_input"] = power_mw
    return files


def _throttle(number: int, counts: Tuple[int, int, int], state: int) -> Files:
    place, cooling = f"/sys/class/hwmon/hwmon{number}", "/sys/class/thermal/cooling_device0"
    return {
        f"{place}/name": "soctherm_oc",
        **{f"{place}/oc{index}_event_cnt": count for index, count in enumerate(counts, 1)},
        f"{cooling}/type": "gpu-throttle-alert",
        f"{cooling}/cur_state": state,
    }


def nano() -> Files:
    return {
        **_device_tree("NVIDIA Jetson Nano Developer Kit", "nvidia,p3449-0000-b00+p3448-0000-b00",
                       "nvidia,jetson-nano", "nvidia,tegra210"),
        **_l4t(32, "7.1"),
        **_modes(0, "MAXN", "5W"),
        **_memory(4_059_316, 2_800_000, 2_029_656),
        **_zones(AO_therm=46.0, CPU_therm=40.5, GPU_therm=41.0, PLL_therm=39.0, PMIC_Die=100.0),
        **_devfreq("57000000.gpu", 76.8, 76.8, 921.6),
        "/sys/devices/gpu.0/load": 0,
        **_cores(4, 1_479_000, 1_479_000),
        **_iio("6-0040", [("POM_5V_IN", 900), ("POM_5V_GPU", 40), ("POM_5V_CPU", 123)]),
        "/sys/devices/pwm-fan/cur_pwm": 51,
    }  # fmt: skip


def nano_2gb() -> Files:
    return {
        **_device_tree("NVIDIA Jetson Nano 2GB Developer Kit", "nvidia,p3542-0000+p3448-0003",
                       "nvidia,jetson-nano-2gb", "nvidia,jetson-nano", "nvidia,tegra210"),
        **_l4t(32, "7.4"),
        **_modes(0, "MAXN", "5W"),
        **_memory(2_027_000, 900_000),
        **_zones(CPU_therm=38.0),
    }  # fmt: skip


def tx2() -> Files:
    return {
        **_device_tree("quill", "nvidia,p2597-0000+p3310-1000", "nvidia,tegra186"),
        "/etc/nv_boot_control.conf": "TNSPEC 3310-B02-1000-E.0-1-0-jetson-tx2-devkit-mmcblk0p1",
        **_l4t(32, "7.6"),
        **_modes(3, "MAXN", "MAXQ", "MAXP_CORE_ALL", "MAXP_CORE_ARM", "MAXP_CORE_DENVER"),
        **_memory(8_041_408, 6_000_000, 524_284),
        **_zones(BCPU_therm=35.0, MCPU_therm=35.0, GPU_therm=41.0, PMIC_Die=100.0),
        **_devfreq("17000000.gp10b", 114.75, 114.75, 1122.0),
        "/sys/devices/gpu.0/load": 250,
        **_cores(6, 345_600, 2_035_200),
        **_iio("0-0040", [("VDD_SYS_GPU", 152), ("VDD_SYS_SOC", 400)]),
        **_iio("0-0041", [("VDD_IN", 2003), ("VDD_SYS_CPU", 320), ("VDD_SYS_DDR", 240)]),
    }


def xavier_nx() -> Files:
    return {
        **_device_tree("NVIDIA Jetson Xavier NX Developer Kit", "nvidia,p3509-0000+p3668-0001",
                       "nvidia,tegra194"),
        "/etc/nv_boot_control.conf": "TNSPEC 3668-200-0001-G.0-1-2-jetson-xavier-nx-devkit-emmc-",
        **_l4t(35, "4.1"),
        **_modes(8, "MODE_15W_2CORE", "MODE_15W_4CORE", "MODE_15W_6CORE", "MODE_10W_2CORE",
                 "MODE_10W_4CORE", "MODE_10W_DESKTOP", "MODE_20W_2CORE", "MODE_20W_4CORE",
                 "MODE_20W_6CORE"),
        **_memory(7_100_000, 5_000_000, 3_500_000),
        **_zones(AO_therm=42.5, GPU_therm=40.0, AUX_therm=41.0, CPU_therm=42.5, PMIC_Die=50.0),
        **_devfreq("17000000.gv11b", 1109.25, 1109.25, 1109.25),
        "/sys/devices/platform/gpu.0/load": 990,
        **_cores(6, 1_420_800, 1_907_200),
        **_ina3221(3, ("VDD_IN", 5000, 1153), ("VDD_CPU_GPU_CV", 5000, 310),
                   ("VDD_SOC", 5000, 300)),
        **_throttle(5, (0, 1, 0), 0),
        "/sys/class/hwmon/hwmon1/name": "pwmfan",
        "/sys/class/hwmon/hwmon1/pwm1": 255,
    }  # fmt: skip


def agx_xavier() -> Files:
    """Its device tree names the carrier alone; the module is in the boot configuration."""
    return {
        **_device_tree("Jetson-AGX", "nvidia,p2972-0000", "nvidia,tegra194"),
        "/etc/nv_boot_control.conf": "TNSPEC 2888-400-0001-E.0-1-2-jetson-agx-xavier-devkit-",
        **_l4t(35, "5.0"),
        **_modes(0, "MAXN", "MODE_10W", "MODE_15W", "MODE_30W_ALL"),
        **_memory(15_900_000, 12_000_000),
        **_zones(CPU_therm=33.5, GPU_therm=32.0),
        **_devfreq("17000000.gv11b", 318.75, 114.75, 1377.0),
        **_ina3221(2, ("GPU", 19000, 10), ("CPU", 19000, 20), ("SOC", 19000, 45)),
        **_ina3221(3, ("CV", 19000, 0), ("VDDRQ", 19000, 8), ("SYS5V", 5000, 378)),
    }


def _orin_sensors() -> Files:
    return {
        **_zones(cpu_thermal=45.5, gpu_thermal=44.25, cv0_thermal=-256.0, soc0_thermal=44.0,
                 tj_thermal=45.5),
        **_devfreq("17000000.ga10b", 306.0, 306.0, 1020.0),
        "/sys/class/devfreq/17000000.ga10b/device/load": 500,
        **_cores(6, 1_510_400, 1_728_000),
        **_ina3221(1, ("VDD_IN", 4984, 1856), ("VDD_CPU_GPU_CV", 4984, 400),
                   ("VDD_SOC", 4984, 300)),
        **_throttle(3, (0, 15, 37), 1),
        "/sys/class/hwmon/hwmon0/name": "pwmfan",
        "/sys/class/hwmon/hwmon0/pwm1": 102,
        "/sys/class/hwmon/hwmon2/name": "pwm_tach",
        "/sys/class/hwmon/hwmon2/rpm": 2140,
    }  # fmt: skip


def orin_nano() -> Files:
    return {
        **_device_tree("NVIDIA Jetson Orin Nano Developer Kit", "nvidia,p3768-0000+p3767-0005",
                       "nvidia,p3767-0005", "nvidia,tegra234"),
        "/etc/nv_boot_control.conf": "TNSPEC 3767-300-0005-T.1-1-1-jetson-orin-nano-devkit-",
        **_l4t(36, "4.0"),
        **_modes(0, "15W", "7W"),
        **_memory(7_803_000, 6_000_000, 3_900_000),
        **_orin_sensors(),
    }  # fmt: skip


def orin_nano_super() -> Files:
    return {
        **orin_nano(),
        **_device_tree("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
                       "nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005",
                       "nvidia,tegra234"),
        **_l4t(36, "4.7"),
        **_modes(2, "15W", "25W", "MAXN_SUPER", "7W"),
    }  # fmt: skip


def orin_nx() -> Files:
    return {
        **orin_nano(),
        **_device_tree("NVIDIA Orin NX Developer Kit", "nvidia,p3768-0000+p3767-0000-super",
                       "nvidia,p3767-0000", "nvidia,tegra234"),
        "/etc/nv_boot_control.conf": "TNSPEC 3767-300-0000-M.3-1-1-jetson-orin-nano-devkit-super-",
        **_l4t(36, "5.0"),
        **_modes(4, "MAXN_SUPER", "10W", "15W", "25W", "40W"),
        **_memory(15_900_000, 14_000_000),
    }  # fmt: skip


def agx_orin() -> Files:
    return {
        **_orin_sensors(),
        **_device_tree("Jetson AGX Orin Developer Kit", "nvidia,p3737-0000+p3701-0005",
                       "nvidia,p3701-0005", "nvidia,tegra234"),
        **_l4t(35, "4.1"),
        **_modes(3, "MAXN", "MODE_15W", "MODE_30W", "MODE_50W"),
        **_memory(64_350_000, 60_000_000),
        **_ina3221(1, ("VDD_GPU_SOC", 19000, 252), ("VDD_CPU_CV", 19000, 42),
                   ("VIN_SYS_5V0", 5000, 768)),
        **_ina3221(4, ("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 141), ("NC", 0, 0)),
    }  # fmt: skip


def thor() -> Files:
    return {
        **_device_tree("NVIDIA Jetson AGX Thor Developer Kit", "nvidia,p4071-0000+p3834-0008",
                       "nvidia,p3834-0008", "nvidia,tegra264"),
        **_l4t(38, "4.0"),
        **_modes(1, "MAXN", "120W", "90W", "70W"),
        **_memory(128_825_804, 120_000_000),
        **_zones(cpu_thermal=34.468, tj_thermal=34.5, soc012_thermal=33.781, soc345_thermal=34.5),
        **_devfreq("gpu-gpc-0", 1575.0, 1575.0, 1575.0),
        **_devfreq("gpu-nvd-0", 1692.0, 1692.0, 1692.0),
        **_devfreq("bwmgr", 4266.0, 665.0, 4266.0),
        **_cores(14, 972_000, 2_601_000),
        **_ina3221(3, ("VDD_GPU", 12000, 0), ("VDD_CPU_SOC_MSS", 12000, 347),
                   ("VIN_SYS_5V0", 5000, 825)),
        "/sys/class/hwmon/hwmon4/name": "ina238",
        "/sys/class/hwmon/hwmon4/power1_input": 16_802_000,
        "/sys/class/hwmon/hwmon4/power1_label": "VIN",
        **_throttle(5, (0, 0, 179), 0),
    }  # fmt: skip


def unknown() -> Files:
    """A Jetson of the future: a release nobody knows, and nothing else."""
    return _l4t(99, "9")


BOARDS: Dict[str, Callable[[], Files]] = {
    "jetson-nano": nano,
    "jetson-nano-2gb": nano_2gb,
    "jetson-tx2": tx2,
    "jetson-xavier-nx": xavier_nx,
    "jetson-agx-xavier": agx_xavier,
    "jetson-orin-nano": orin_nano,
    "jetson-orin-nano-super": orin_nano_super,
    "jetson-orin-nx": orin_nx,
    "jetson-agx-orin": agx_orin,
    "jetson-agx-thor": thor,
    "unknown": unknown,
}
