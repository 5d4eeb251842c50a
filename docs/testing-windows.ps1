<#
.SYNOPSIS
    Looks at a machine on which vroce is installed, tries what can be tried from a script, and writes one report to send back.
    Nobody has run this script yet.
.DESCRIPTION
    What windows.md describes, as far as a script can do it. Without -NdkServer, -NdkClient, -Toggle and -Share it changes nothing. Each
    run writes a report of its own, and none is overwritten. Every section stands for itself: what is missing on the machine is noted, and
    the rest goes on. What the driver tells event tracing during the tests is recorded beside the report, in its name with .etl (as
    administrator). The report has names of machines, addresses and paths of shares in it: look through it before you send it.
.PARAMETER Peer
    Address of another machine, to be reached through the card.
.PARAMETER Share
    A share there. A file of -Megabytes is copied to it and back, compared, and removed again.
.PARAMETER NdkServer
    Waits -Seconds for NdkPerfCmd of another machine (start this first, there).
.PARAMETER NdkClient
    Address of the machine that waits with -NdkServer.
.PARAMETER NdkTest
    What -NdkServer and -NdkClient run: rping, which connects and compares, or rperf, which is load. The same on both sides.
.PARAMETER Toggle
    Also disables and enables RDMA and restarts the card, which interrupts it.
.PARAMETER Report
    Where the report goes. Without it: vroce-report- and the time, here.
.EXAMPLE
    .\testing-windows.ps1 -Peer 10.0.0.2 -Share \\10.0.0.2\share
#>
[CmdletBinding()]
param(
    [string]$Peer,
    [string]$Share,
    [switch]$NdkServer,
    [string]$NdkClient,
    [ValidateSet("rping", "rperf")][string]$NdkTest = "rping",
    [switch]$Toggle,
    [int]$Megabytes = 1024,
    [int]$Seconds = 120,
    [string]$Report = "vroce-report-$(Get-Date -Format 'yyyyMMdd-HHmmss').txt"
)
$ErrorActionPreference = "Continue"
# What was tried and did not work; and where a command complained, which may only mean that the machine has not got something.
$script:Failed = @()
$script:Complaints = @()
if (Test-Path -LiteralPath $Report) {
    Write-Host "$Report is there already" -ForegroundColor Red
    exit 1
}

# Text to the screen and to the report.
function Write-Report($Text) {
    $Text | Out-String -Width 220 | Tee-Object -FilePath $Report -Append
}

# One part of the report. An error in it is a line of it; an error in a test is a failure of it.
function Section([string]$Title, [scriptblock]$Body, [switch]$Test) {
    Write-Report "== $Title"
    try {
        $said = @(& $Body *>&1)
        if ($said.Count -eq 0) { $said = @("(nothing)") }
        Write-Report $said
        # What programs write to their standard error comes as errors, too; those say by their exit codes what became of them.
        $errors = @($said | Where-Object { $_ -is [Management.Automation.ErrorRecord] -and $_.FullyQualifiedErrorId -notlike "NativeCommandError*" })
        if ($errors.Count -gt 0 -and $Test) { $script:Failed += "${Title}: $($errors[0])" }
        elseif ($errors.Count -gt 0) { $script:Complaints += "$Title ($($errors.Count))" }
    }
    catch {
        $script:Failed += "${Title}: $_"
        Write-Report "FAILED: $_"
    }
}

# Whether a command is there; notes it if not.
function Has([string]$Name) {
    if (Get-Command $Name -ErrorAction SilentlyContinue) { return $true }
    # A warning, so that it is no part of the answer.
    Write-Warning "not on this machine: $Name"
    return $false
}

# An argument as Start-Process needs it, which joins them with blanks.
function Quote([string]$Argument) { if ($Argument -match '\s') { '"' + $Argument + '"' } else { $Argument } }

# A program with an end: what it printed, and how it ended. Any end but 0 makes the section fail.
function Invoke-Program([string]$Program, [string[]]$Arguments, [int]$Limit) {
    $out = [IO.Path]::GetTempFileName()
    $err = [IO.Path]::GetTempFileName()
    try {
        $process = Start-Process -FilePath $Program -ArgumentList @($Arguments | ForEach-Object { Quote $_ }) -NoNewWindow -PassThru -RedirectStandardOutput $out -RedirectStandardError $err
        # Read once, or Windows PowerShell forgets the exit code.
        $null = $process.Handle
        $ended = $process.WaitForExit($Limit * 1000)
        if (-not $ended) { $process.Kill() }
        Get-Content $out
        Get-Content $err
        if (-not $ended) {
            $script:Failed += "$Program $($Arguments -join ' '): no end"
            "FAILED: no end after $Limit s"
        }
        else {
            if ($process.ExitCode -ne 0) { $script:Failed += "$Program $($Arguments -join ' '): exit code $($process.ExitCode)" }
            "exit code $($process.ExitCode)"
        }
    }
    finally { Remove-Item $out, $err -ErrorAction SilentlyContinue }
}

$cards = @()
if (Get-Command Get-NetAdapter -ErrorAction SilentlyContinue) {
    $cards = @(Get-NetAdapter -IncludeHidden -ErrorAction SilentlyContinue | Where-Object { $_.InterfaceDescription -like "vroce*" })
}
$here = Split-Path -Parent $MyInvocation.MyCommand.Path

Section "What this is" {
    "vroce report of $((Get-Date).ToUniversalTime().ToString('u')), $($cards.Count) card(s), PowerShell $($PSVersionTable.PSVersion)"
    $me = New-Object Security.Principal.WindowsPrincipal([Security.Principal.WindowsIdentity]::GetCurrent())
    "administrator: $($me.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator))"
    foreach ($file in @("vroce.sys", "vroce.inf", "vroce.cat", "vroce.pdb")) {
        $path = Join-Path $here $file
        if (Test-Path $path) { "$file $((Get-FileHash $path -Algorithm SHA256).Hash)" }
    }
}
Section "System" {
    Get-CimInstance Win32_OperatingSystem | Format-List -Property @("Caption", "Version", "BuildNumber", "OSArchitecture", "LastBootUpTime", "FreePhysicalMemory")
    Get-CimInstance Win32_ComputerSystem | Format-List -Property @("Manufacturer", "Model", "NumberOfLogicalProcessors", "TotalPhysicalMemory")
    if (Has "Get-HotFix") { Get-HotFix | Sort-Object InstalledOn | Select-Object -Last 5 | Format-Table -AutoSize }
}
Section "Boot settings" {
    if (Has "bcdedit.exe") { bcdedit.exe /enum "{current}" }
    if (Has "Confirm-SecureBootUEFI") { "Secure Boot: $(try { Confirm-SecureBootUEFI } catch { $_ })" }
}
Section "Driver" {
    Get-CimInstance Win32_PnPSignedDriver | Where-Object { $_.DeviceName -like "vroce*" } |
        Format-List -Property @("DeviceName", "DeviceID", "DriverVersion", "DriverDate", "InfName", "IsSigned", "Signer")
    Get-CimInstance Win32_SystemDriver -Filter "Name='vroce'" | Format-List -Property @("Name", "State", "Status", "PathName", "ExitCode")
    # The file that is installed, which need not be the one beside this script.
    foreach ($service in @(Get-CimInstance Win32_SystemDriver -Filter "Name='vroce'")) {
        $path = $service.PathName -replace '^\\\?\?\\', '' -replace '^\\SystemRoot', $env:windir
        if (Test-Path -LiteralPath $path) { "$path $((Get-FileHash -LiteralPath $path -Algorithm SHA256).Hash)" }
    }
}
Section "Driver store" {
    if (Has "Get-WindowsDriver") {
        Get-WindowsDriver -Online | Where-Object { $_.OriginalFileName -like "*vroce.inf" } |
            Format-List -Property @("Driver", "OriginalFileName", "Version", "Date", "DriverSignature")
    }
}
Section "Virtio network cards, and problems of devices" {
    if (Has "Get-PnpDevice") {
        $devices = @(Get-PnpDevice -ErrorAction SilentlyContinue | Where-Object { $_.InstanceId -match '^PCI\\VEN_1AF4&DEV_(1041|1000)' })
        $devices | Format-Table -AutoSize -Property @("FriendlyName", "Status", "Problem", "InstanceId")
        foreach ($device in $devices) {
            Get-PnpDeviceProperty -InstanceId $device.InstanceId -ErrorAction SilentlyContinue |
                Where-Object { $_.KeyName -match 'Problem|DriverInfPath|DriverVersion|Service$|InterruptSupport|InterruptMessageMaximum' } |
                Format-Table -AutoSize -Property @("KeyName", "Data")
        }
    }
}
Section "Installation log" {
    $log = Join-Path $env:windir "INF\setupapi.dev.log"
    if (Test-Path $log) { Select-String -Path $log -Pattern "vroce|!!!" -Context 0, 1 | Select-Object -Last 80 | ForEach-Object { $_.ToString() } }
}
Section "Cards" { $cards | Format-List -Property @("Name", "InterfaceDescription", "ifIndex", "Status", "LinkSpeed", "MtuSize", "MacAddress", "DriverVersion", "NdisVersion", "PnPDeviceID") }
Section "Addresses" { $cards | Get-NetIPAddress -ErrorAction SilentlyContinue | Format-Table -AutoSize -Property @("InterfaceAlias", "IPAddress", "PrefixLength", "AddressState") }
Section "Advanced properties" {
    $cards | Get-NetAdapterAdvancedProperty -AllProperties -ErrorAction SilentlyContinue |
        Format-Table -AutoSize -Property @("Name", "RegistryKeyword", "DisplayName", "DisplayValue", "RegistryValue", "DefaultRegistryValue")
}
Section "RDMA" {
    if (Has "Get-NetAdapterRdma") { $cards | Get-NetAdapterRdma | Format-List -Property "*" }
    if (Has "Get-NetOffloadGlobalSetting") {
        $global = Get-NetOffloadGlobalSetting
        $global | Format-List -Property "*"
        if ("$($global.NetworkDirect)" -ne "Enabled") { "NOTE: the machine forbids RDMA: Set-NetOffloadGlobalSetting -NetworkDirect Enabled" }
    }
    foreach ($card in $cards) {
        $rdma = if (Get-Command Get-NetAdapterRdma -ErrorAction SilentlyContinue) { Get-NetAdapterRdma -Name $card.Name -ErrorAction SilentlyContinue }
        if (-not $rdma -or -not $rdma.Enabled) { "NOTE: RDMA is off on $($card.Name): Enable-NetAdapterRdma, or -Toggle" }
    }
}
Section "SMB" {
    if (Has "Get-SmbClientNetworkInterface") { Get-SmbClientNetworkInterface | Format-Table -AutoSize }
    if (Has "Get-SmbServerNetworkInterface") { Get-SmbServerNetworkInterface | Format-Table -AutoSize }
    if (Has "Get-SmbClientConfiguration") { Get-SmbClientConfiguration | Format-List -Property @("EnableMultiChannel", "ConnectionCountPerRdmaNetworkInterface") }
    if (Has "Get-SmbServerConfiguration") { Get-SmbServerConfiguration | Format-List -Property @("EnableMultiChannel", "EncryptData") }
    if (Has "Get-WindowsOptionalFeature") { Get-WindowsOptionalFeature -Online -FeatureName "SMBDirect" -ErrorAction SilentlyContinue | Format-List -Property @("FeatureName", "State") }
}
Section "Network Direct listeners and connections" { if (Has "netstat.exe") { netstat.exe -xan } }
Section "Driver Verifier" {
    if (Has "verifier.exe") {
        verifier.exe /querysettings
        verifier.exe /query
    }
}

# Round the tests: what the driver tells event tracing (windows.md, "Record what happens").
$tracing = $false
$etl = [IO.Path]::ChangeExtension($Report, ".etl")
if ($Toggle -or $Peer -or $NdkServer -or $NdkClient -or $Share) {
    Section "Event trace begins" {
        if (-not (Has "logman.exe")) { return }
        Remove-Item -LiteralPath $etl -ErrorAction SilentlyContinue
        logman.exe create trace vroce-report -p "{00ae21e7-4789-5e6f-3649-4e771fb7333f}" 0xf 4 -o $etl -ets
        if ($LASTEXITCODE -eq 0) { $script:tracing = $true } else { "not recorded: logman ended with $LASTEXITCODE" }
    }
}

if ($Toggle) {
    Section -Test "RDMA off and on, card restarted" {
        if ($cards.Count -eq 0) { throw "there is no vroce card" }
        foreach ($card in $cards) {
            Disable-NetAdapterRdma -Name $card.Name
            "disabled: $((Get-NetAdapterRdma -Name $card.Name).Enabled)"
            Enable-NetAdapterRdma -Name $card.Name
            "enabled: $((Get-NetAdapterRdma -Name $card.Name).Enabled)"
            Restart-NetAdapter -Name $card.Name
            Start-Sleep -Seconds 15
            Get-NetAdapter -Name $card.Name | Format-List -Property @("Name", "Status", "LinkSpeed")
        }
    }
}
if ($Peer) {
    Section -Test "Ping" {
        foreach ($size in @(32, 1400, 4000)) { Invoke-Program "ping.exe" @("-n", "10", "-l", "$size", $Peer) 60 }
        Find-NetRoute -RemoteIPAddress $Peer -ErrorAction SilentlyContinue | Format-List -Property @("InterfaceAlias", "IPAddress", "NextHop")
    }
}
if ($NdkServer -or $NdkClient) {
    # NdkPerfCmd.exe, with its driver, comes with Windows Server, but not with every edition.
    $card = $cards | Select-Object -First 1
    $own = $cards | Get-NetIPAddress -AddressFamily IPv4 -ErrorAction SilentlyContinue | Select-Object -First 1
    # One test a run: a client of the second must not be there before its server.
    Section -Test "NdkPerfCmd $NdkTest" {
        if (-not (Has "NdkPerfCmd.exe")) { throw "NdkPerfCmd.exe is not on this machine" }
        if (-not $card -or -not $own) { throw "there is no vroce card with an IPv4 address" }
        $address = $own.IPAddress
        if ($NdkServer) {
            Invoke-Program "NdkPerfCmd.exe" @("-S", "-ServerAddr", "${address}:9000", "-ServerIf", "$($card.ifIndex)", "-TestType", $NdkTest, "-W", "$Seconds") ($Seconds + 60)
        }
        else {
            $log = Join-Path $env:TEMP "vroce-ndk.log"
            Invoke-Program "NdkPerfCmd.exe" @("-C", "-ServerAddr", "${NdkClient}:9000", "-ClientAddr", $address, "-ClientIf", "$($card.ifIndex)", "-TestType", $NdkTest, "-LogFilename", $log, "-V") ($Seconds + 60)
            if (Test-Path $log) {
                Get-Content $log
                Remove-Item $log
            }
        }
    }
}
if ($Share) {
    Section -Test "Copy over SMB" {
        $file = Join-Path $env:TEMP "vroce-test.bin"
        $back = Join-Path $env:TEMP "vroce-test-back.bin"
        $there = Join-Path $Share "vroce-test.bin"
        try {
            # No zeros, which compress.
            $block = New-Object byte[] 1048576
            $random = New-Object Random 1
            $stream = [IO.File]::Create($file)
            try {
                foreach ($number in 1..$Megabytes) {
                    $random.NextBytes($block)
                    $stream.Write($block, 0, $block.Length)
                }
            }
            finally { $stream.Close() }
            $cards | Get-NetAdapterStatistics -ErrorAction SilentlyContinue | Format-Table -AutoSize -Property @("Name", "SentBytes", "ReceivedBytes")
            $to = Measure-Command { Copy-Item $file $there -ErrorAction Stop }
            if (Has "Get-SmbMultichannelConnection") { Get-SmbMultichannelConnection | Format-List -Property "*" }
            if (Has "Get-SmbConnection") { Get-SmbConnection | Format-Table -AutoSize -Property @("ServerName", "ShareName", "Dialect", "NumOpens") }
            $from = Measure-Command { Copy-Item $there $back -ErrorAction Stop }
            "there: $Megabytes MiB in $($to.TotalSeconds) s, back: $($from.TotalSeconds) s"
            $same = (Get-FileHash $file).Hash -eq (Get-FileHash $back).Hash
            "what came back is what went: $same"
            if (-not $same) { $script:Failed += "Copy over SMB: the file came back changed" }
            # Bytes over RDMA do not pass the card's own counters of frames that TCP/IP sees.
            $cards | Get-NetAdapterStatistics -ErrorAction SilentlyContinue | Format-Table -AutoSize -Property @("Name", "SentBytes", "ReceivedBytes")
        }
        finally { Remove-Item $file, $back, $there -ErrorAction SilentlyContinue }
    }
}

if ($tracing) {
    Section "Event trace ends" {
        logman.exe stop vroce-report -ets
        Get-ChildItem -LiteralPath $etl | Format-Table -AutoSize -Property @("FullName", "Length")
        "send it with the report"
    }
}
Section "Performance counters" {
    if (Has "Get-Counter") {
        # Their names are translated on a Windows of another language.
        foreach ($set in @("RDMA Activity", "SMB Direct Connection")) {
            Get-Counter "\$set(*)\*" -ErrorAction SilentlyContinue | Select-Object -ExpandProperty CounterSamples |
                Where-Object { $_.CookedValue -ne 0 } | Format-Table -AutoSize -Property @("Path", "CookedValue")
        }
    }
}
Section "Events of the driver" {
    Get-WinEvent -FilterHashtable @{ LogName = "System"; ProviderName = "vroce" } -MaxEvents 100 -ErrorAction SilentlyContinue | Format-List -Property @("TimeCreated", "Id", "LevelDisplayName", "Message")
}
Section "Events of SMB" {
    foreach ($log in @("Microsoft-Windows-SMBClient/Connectivity", "Microsoft-Windows-SMBServer/Connectivity", "Microsoft-Windows-SmbClient/Security")) {
        Get-WinEvent -LogName $log -MaxEvents 30 -ErrorAction SilentlyContinue | Format-List -Property @("TimeCreated", "Id", "LevelDisplayName", "Message")
    }
}
Section "Bug checks, and loads that failed" {
    Get-WinEvent -FilterHashtable @{ LogName = "System"; ProviderName = "Microsoft-Windows-WER-SystemErrorReporting" } -MaxEvents 10 -ErrorAction SilentlyContinue | Format-List -Property @("TimeCreated", "Message")
    Get-WinEvent -FilterHashtable @{ LogName = "Microsoft-Windows-CodeIntegrity/Operational" } -MaxEvents 200 -ErrorAction SilentlyContinue |
        Where-Object { $_.Message -like "*vroce*" } | Format-List -Property @("TimeCreated", "Id", "Message")
    Get-ChildItem (Join-Path $env:windir "Minidump"), (Join-Path $env:windir "MEMORY.DMP") -ErrorAction SilentlyContinue | Format-Table -AutoSize -Property @("FullName", "Length", "LastWriteTime")
}
if ($script:Complaints.Count -gt 0) { Write-Report "Commands complained in: $($script:Complaints -join '; ')" }
if ($script:Failed.Count -gt 0) { Write-Report "FAILED: $($script:Failed -join '; ')" }
elseif ($Toggle -or $Peer -or $NdkServer -or $NdkClient -or $Share) { Write-Report "No test failed. What the sections say is for people to read." }
else { Write-Report "Nothing was tried: without parameters this only looks." }
"The report is in $Report."
