<#
.SYNOPSIS
    Gives vroce to one virtio network card. Nobody has run this script yet.
.DESCRIPTION
    Without -Adapter it lists the cards that could have the driver, with a driver or without, and changes nothing. With it: checks the machine, trusts the
    certificate beside the script, puts the driver into the driver store, installs it on that card, no other, and looks whether it has
    started. Doing it twice does no harm. Virtio cards that Windows installs later by itself may get the driver, too, as long as it is in
    the driver store; uninstall.ps1 takes it out.
.PARAMETER Adapter
    The card's name, as Get-NetAdapter shows it; of a card without a driver, which has none, its device's instance id as the list shows it.
.PARAMETER Force
    Even if the machine has no other card that works, or is used through this one.
.EXAMPLE
    .\install.ps1 -Adapter "Ethernet 2"
.EXAMPLE
    .\install.ps1 -Adapter 'PCI\VEN_1AF4&DEV_1041&SUBSYS_11001AF4&REV_01\3&11583659&0&18'
#>
[CmdletBinding()]
param([string]$Adapter, [switch]$Force)

Set-StrictMode -Version 2
$ErrorActionPreference = "Stop"
$here = Split-Path -Parent $MyInvocation.MyCommand.Path

# Where the certificate was not trusted before.
$script:Trusted = @()
$script:Thumbprint = ""

function Stop-With([string]$Text) {
    foreach ($store in $script:Trusted) {
        Remove-Item "Cert:\LocalMachine\$store\$script:Thumbprint" -ErrorAction SilentlyContinue
    }
    Write-Host "NOT INSTALLED: $Text" -ForegroundColor Red
    exit 1
}

# The cards that the INF names: those with a driver have a name and an index, those without only their device.
$named = @(Get-NetAdapter -IncludeHidden)
$cards = @(Get-PnpDevice -PresentOnly | Where-Object { $_.InstanceId -match '^PCI\\VEN_1AF4&DEV_(1041|1000)' } | ForEach-Object {
        $device = $_
        # Not called $adapter: names of variables have no case, and this would be the parameter.
        $found = $named | Where-Object { $_.PnPDeviceID -eq $device.InstanceId } | Select-Object -First 1
        New-Object PSObject -Property @{
            Name = $(if ($found) { $found.Name } else { "" })
            Description = $(if ($found) { $found.InterfaceDescription } else { "no driver ($($device.FriendlyName))" })
            Status = $(if ($found) { $found.Status } else { $device.Status })
            Index = $(if ($found) { $found.ifIndex } else { $null })
            Instance = $device.InstanceId
        }
    })
if (-not $Adapter) {
    if ($cards.Count -eq 0) { Stop-With "this machine has no virtio network card" }
    $cards | Format-List -Property @("Name", "Description", "Status", "Instance")
    Write-Host 'Say which, by its name or in single quotes by its instance: .\install.ps1 -Adapter "NAME". Not the one that you are connected through.'
    exit 0
}
$card = @($cards | Where-Object { $Adapter -eq $_.Name -or $Adapter -eq $_.Instance })
if ($card.Count -ne 1) { Stop-With "no virtio network card is called '$Adapter'; without -Adapter they are listed" }
$instance = $card[0].Instance
if (-not $Force) {
    # Switches, teams and VPNs have adapters too, which go when the card under them does.
    $others = @(Get-NetAdapter -Physical | Where-Object { $_.PnPDeviceID -ne $instance -and $_.Status -eq "Up" })
    if ($others.Count -eq 0) { Stop-With "no other card is up, so nothing could reach this machine but its console; -Force does it nevertheless" }
    # Nobody comes in through a card without a driver.
    $own = @()
    if ($null -ne $card[0].Index) {
        $over = @($card[0].Index)
        # With a virtual switch or a team over it, the addresses are on their adapters. Which of these, only their own tools tell: any.
        $bound = @(Get-NetAdapterBinding -Name $card[0].Name -ComponentID @("vms_pp", "ms_lbfoprov", "ms_implat") -ErrorAction SilentlyContinue |
            Where-Object { $_.Enabled })
        if ($bound.Count -gt 0) {
            $physical = @(Get-NetAdapter -Physical | ForEach-Object { $_.ifIndex })
            $over += @(Get-NetAdapter | Where-Object { $physical -notcontains $_.ifIndex } | ForEach-Object { $_.ifIndex })
        }
        $own = @(Get-NetIPAddress -InterfaceIndex $over -ErrorAction SilentlyContinue | ForEach-Object { $_.IPAddress })
    }
    # Remote Desktop, PowerShell remoting, SSH.
    $through = @(Get-NetTCPConnection -State Established -LocalPort @(3389, 5985, 5986, 22) -ErrorAction SilentlyContinue |
        Where-Object { $own -contains $_.LocalAddress })
    if ($through.Count -gt 0) { Stop-With "somebody is connected through '$Adapter' (port $($through[0].LocalPort)); -Force does it nevertheless" }
}
$rest = @($cards | Where-Object { $_.Instance -ne $instance })
if ($rest.Count -gt 0) {
    Write-Host "other virtio cards: $(($rest | ForEach-Object { if ($_.Name) { $_.Name } else { $_.Instance } }) -join ', '). They keep what they have; if Windows installs one of them anew, look which driver it gets" -ForegroundColor Yellow
}

# What the machine has to be.
$me = New-Object Security.Principal.WindowsPrincipal([Security.Principal.WindowsIdentity]::GetCurrent())
if (-not $me.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) { Stop-With "run PowerShell as administrator" }
if (-not [Environment]::Is64BitProcess) { Stop-With "run the 64-bit PowerShell" }
if ([Environment]::OSVersion.Version.Build -lt 20348) { Stop-With "Windows Server 2022 (build 20348) or later is needed" }
$inf = Get-Content (Join-Path $here "vroce.inf") -Raw
$wanted = if ($inf -match 'NTarm64') { "ARM64" } else { "AMD64" }
if ($env:PROCESSOR_ARCHITECTURE -ne $wanted) { Stop-With "this package is for $wanted, the machine is $env:PROCESSOR_ARCHITECTURE" }

# What is in the package has to be what was packed. Who has signed it again has deleted the list.
$sums = Join-Path $here "SHA256SUMS"
$lines = if (Test-Path -LiteralPath $sums) { Get-Content -LiteralPath $sums } else { @() }
foreach ($line in $lines) {
    $sum, $name = $line -split '\s+', 2
    if (-not $name) { continue }
    $path = Join-Path $here $name
    if (-not (Test-Path -LiteralPath $path)) { Stop-With "$name is missing" }
    if ((Get-FileHash -LiteralPath $path -Algorithm SHA256).Hash -ne $sum) { Stop-With "$name is not the file that was packed" }
}

Add-Type -IgnoreWarnings -TypeDefinition @'
using System;
using System.ComponentModel;
using System.Runtime.InteropServices;

public static class VroceSetup
{
    [StructLayout(LayoutKind.Sequential)]
    struct CodeIntegrity { public int Length; public int Options; }

    [StructLayout(LayoutKind.Sequential)]
    struct Device { public int Size; public Guid Class; public int Instance; public IntPtr Reserved; }

    [StructLayout(LayoutKind.Sequential, CharSet = CharSet.Unicode)]
    struct Parameters
    {
        public int Size; public int Flags; public int FlagsEx;
        public IntPtr Parent; public IntPtr Handler; public IntPtr Context; public IntPtr Queue; public IntPtr ClassReserved;
        public int Reserved;
        [MarshalAs(UnmanagedType.ByValTStr, SizeConst = 260)] public string DriverPath;
    }

    [StructLayout(LayoutKind.Sequential, CharSet = CharSet.Unicode)]
    struct Driver
    {
        public int Size; public int Type; public IntPtr Reserved;
        [MarshalAs(UnmanagedType.ByValTStr, SizeConst = 256)] public string Description;
        [MarshalAs(UnmanagedType.ByValTStr, SizeConst = 256)] public string Manufacturer;
        [MarshalAs(UnmanagedType.ByValTStr, SizeConst = 256)] public string Provider;
        public long Date; public long Version;
    }

    [DllImport("ntdll.dll")]
    static extern int NtQuerySystemInformation(int what, ref CodeIntegrity data, int length, out int returned);
    [DllImport("setupapi.dll", SetLastError = true)]
    static extern IntPtr SetupDiCreateDeviceInfoList(IntPtr classGuid, IntPtr parent);
    [DllImport("setupapi.dll", SetLastError = true)]
    static extern bool SetupDiDestroyDeviceInfoList(IntPtr set);
    [DllImport("setupapi.dll", SetLastError = true, CharSet = CharSet.Unicode)]
    static extern bool SetupDiOpenDeviceInfoW(IntPtr set, string instance, IntPtr parent, int flags, ref Device device);
    [DllImport("setupapi.dll", SetLastError = true, CharSet = CharSet.Unicode)]
    static extern bool SetupDiGetDeviceInstallParamsW(IntPtr set, ref Device device, ref Parameters parameters);
    [DllImport("setupapi.dll", SetLastError = true, CharSet = CharSet.Unicode)]
    static extern bool SetupDiSetDeviceInstallParamsW(IntPtr set, ref Device device, ref Parameters parameters);
    [DllImport("setupapi.dll", SetLastError = true)]
    static extern bool SetupDiBuildDriverInfoList(IntPtr set, ref Device device, int type);
    [DllImport("setupapi.dll", SetLastError = true, CharSet = CharSet.Unicode)]
    static extern bool SetupDiEnumDriverInfoW(IntPtr set, ref Device device, int type, int index, ref Driver driver);
    [DllImport("newdev.dll", SetLastError = true, CharSet = CharSet.Unicode)]
    static extern bool DiInstallDevice(IntPtr parent, IntPtr set, ref Device device, ref Driver driver, int flags, out bool reboot);

    // SystemCodeIntegrityInformation, CODEINTEGRITY_OPTION_TESTSIGN.
    public static bool TestSigning()
    {
        var data = new CodeIntegrity { Length = 8 };
        int returned;
        return NtQuerySystemInformation(103, ref data, 8, out returned) == 0 && (data.Options & 2) != 0;
    }

    static void Check(bool done, string what)
    {
        if (done) return;
        int error = Marshal.GetLastWin32Error();
        throw new Win32Exception(error, what + ": " + new Win32Exception(error).Message + " (" + error.ToString("x8") + ")");
    }

    // Installs a driver of the driver store on one device. True: the machine has to be restarted.
    public static bool Install(string instance, string inf)
    {
        const int Compatible = 2, EnumerateSingleInf = 0x10000, AllowExcluded = 0x800;
        IntPtr set = SetupDiCreateDeviceInfoList(IntPtr.Zero, IntPtr.Zero);
        Check(set != new IntPtr(-1), "SetupDiCreateDeviceInfoList");
        try
        {
            var device = new Device { Size = Marshal.SizeOf(typeof(Device)) };
            Check(SetupDiOpenDeviceInfoW(set, instance, IntPtr.Zero, 0, ref device), "SetupDiOpenDeviceInfo");
            var parameters = new Parameters { Size = Marshal.SizeOf(typeof(Parameters)) };
            Check(SetupDiGetDeviceInstallParamsW(set, ref device, ref parameters), "SetupDiGetDeviceInstallParams");
            parameters.Flags |= EnumerateSingleInf;
            parameters.FlagsEx |= AllowExcluded;
            parameters.DriverPath = inf;
            Check(SetupDiSetDeviceInstallParamsW(set, ref device, ref parameters), "SetupDiSetDeviceInstallParams");
            Check(SetupDiBuildDriverInfoList(set, ref device, Compatible), "SetupDiBuildDriverInfoList");
            var driver = new Driver { Size = Marshal.SizeOf(typeof(Driver)) };
            Check(SetupDiEnumDriverInfoW(set, ref device, Compatible, 0, ref driver), "the INF does not name this device: SetupDiEnumDriverInfo");
            bool reboot;
            Check(DiInstallDevice(IntPtr.Zero, set, ref device, ref driver, 0, out reboot), "DiInstallDevice");
            return reboot;
        }
        finally { SetupDiDestroyDeviceInfoList(set); }
    }
}
'@

$secure = $false
try { $secure = Confirm-SecureBootUEFI } catch { $secure = $false }
if (-not [VroceSetup]::TestSigning()) {
    if ($secure) { Stop-With "Secure Boot is on, and forbids test signing: switch it off in the machine's firmware" }
    Stop-With "test signing is off: bcdedit /set testsigning on, then restart"
}

$before = @(Get-CimInstance Win32_PnPSignedDriver | Where-Object { $_.DeviceID -eq $instance })
if ($before.Count -gt 0) { Write-Host "the driver before: $($before[0].InfName), version $($before[0].DriverVersion), of $($before[0].DriverProviderName)" }

Write-Host "trusting the certificate vroce.cer"
$cer = Join-Path $here "vroce.cer"
$script:Thumbprint = (New-Object Security.Cryptography.X509Certificates.X509Certificate2($cer)).Thumbprint
foreach ($store in "Root", "TrustedPublisher") {
    if (Test-Path "Cert:\LocalMachine\$store\$script:Thumbprint") { continue }
    $script:Trusted += $store
    try { Import-Certificate -FilePath $cer -CertStoreLocation "Cert:\LocalMachine\$store" | Out-Null }
    catch { Stop-With "vroce.cer cannot be trusted: $($_.Exception.Message)" }
}

Write-Host "putting the driver into the driver store"
& pnputil.exe /add-driver (Join-Path $here "vroce.inf")
# 259, ERROR_NO_MORE_ITEMS: it is there already.
if ($LASTEXITCODE -notin 0, 259, 3010) { Stop-With "pnputil failed with $LASTEXITCODE; C:\Windows\INF\setupapi.dev.log says why" }
# Which of those called vroce.inf is ours? That whose image lies beside it in the driver store.
$hash = (Get-FileHash -LiteralPath (Join-Path $here "vroce.sys") -Algorithm SHA256).Hash
$stored = @(Get-WindowsDriver -Online | Where-Object { (Split-Path -Leaf $_.OriginalFileName) -eq "vroce.inf" } | Where-Object {
        $image = Join-Path (Split-Path -Parent $_.OriginalFileName) "vroce.sys"
        (Test-Path -LiteralPath $image) -and (Get-FileHash -LiteralPath $image -Algorithm SHA256).Hash -eq $hash
    })
if ($stored.Count -eq 0) { Stop-With "the driver store has no vroce.inf with this vroce.sys" }
$oem = Join-Path $env:windir ("INF\" + $stored[0].Driver)

Write-Host "installing $($stored[0].Driver) on '$Adapter' ($instance)"
try { $restart = [VroceSetup]::Install($instance, $oem) }
catch { Stop-With "$($_.Exception.Message); C:\Windows\INF\setupapi.dev.log says more. $($stored[0].Driver) is still in the driver store: .\uninstall.ps1" }
# From here on the driver is on the card, and needs the certificate.
$script:Trusted = @()
if ($restart) {
    Write-Host "INSTALLED. Restart the machine."
    exit 0
}
# Installed is not started: the device says what came of it.
$problem = $null
$has = $null
foreach ($second in 1..30) {
    $property = Get-PnpDeviceProperty -InstanceId $instance -KeyName "DEVPKEY_Device_ProblemCode" -ErrorAction SilentlyContinue
    # No property, or one without a value: no problem.
    $problem = if ($property -and $property.Data) { [int]$property.Data } else { 0 }
    $property = Get-PnpDeviceProperty -InstanceId $instance -KeyName "DEVPKEY_Device_DriverInfPath" -ErrorAction SilentlyContinue
    $has = if ($property) { $property.Data } else { $null }
    $service = Get-CimInstance Win32_SystemDriver -Filter "Name='vroce'"
    if ($problem -eq 0 -and $has -eq $stored[0].Driver -and $service -and $service.State -eq "Running") { break }
    Start-Sleep -Seconds 1
}
if ($problem -ne 0 -or $has -ne $stored[0].Driver -or -not $service -or $service.State -ne "Running") {
    Write-Host "INSTALLED, BUT NOT STARTED: problem code $problem, the card's driver is $has, the service is $(if ($service) { $service.State } else { 'not there' })" -ForegroundColor Red
    Write-Host "52: the signature is not accepted. 10, 31, 37: the driver was loaded and refused; the System event log (provider vroce) may say why. 39: it could not be loaded."
    Write-Host "Run .\testing-windows.ps1 for the report. The way back: .\uninstall.ps1, or Device Manager, the card, Roll back driver."
    exit 1
}
Get-NetAdapter -IncludeHidden | Where-Object { $_.PnPDeviceID -eq $instance } |
    Format-List -Property @("Name", "InterfaceDescription", "Status", "LinkSpeed", "DriverVersion")
Get-NetAdapter -IncludeHidden | Where-Object { $_.PnPDeviceID -eq $instance } | Get-NetAdapterRdma -ErrorAction SilentlyContinue |
    Format-List -Property @("Name", "Enabled")
Write-Host "INSTALLED. Next: .\testing-windows.ps1"
