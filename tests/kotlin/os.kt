package android.os

object Build {
    val MANUFACTURER = "Stand"
    val MODEL = "in"
    val HARDWARE = "ranchu"
    val SUPPORTED_ABIS = arrayOf("arm64-v8a")
    object VERSION { val SDK_INT = 34; val RELEASE = "14" }
    object VERSION_CODES { const val Q = 29 }
}

class PowerManager(val name: String) {
    val currentThermalStatus get() = 1
    companion object { const val THERMAL_STATUS_MODERATE = 2 }
}
